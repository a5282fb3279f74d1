import errno
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import numpy as np
import torch
from conftest import scene, write_pair

from roadseg.backends.torch import TorchBackend
from roadseg.cli import app
from roadseg.data.folder import FolderDataset
from roadseg.errors import ConfigError, DatasetError, ModelFileError, OutputError
from roadseg.measure.evaluate import evaluate
from roadseg.measure.metrics import confusion_matrix
from roadseg.models.checkpoint import load_model, save_model
from roadseg.train.config import AugmentConfig, TrainConfig
from roadseg.train.loop import _determinism, rehearse, train
from roadseg.train.losses import CLASS_WEIGHTS, LOSSES, Criterion
from roadseg.train.run import load_state, save_state
from roadseg.train.step import TrainState, learning_rate, new_state, train_step, uses_amp

PLAIN = Criterion(loss="dice", class_weights=torch.ones(11))
GENTLE = replace(AugmentConfig.none(), scale=(0.9, 1.1), flip=True, rare_crop=0.4)


def small(data: Path, out: Path, **changes: Any) -> TrainConfig:
    config = TrainConfig(
        data=(str(data),),
        out=out,
        arch="unet-lite",
        width=12,
        pretrained=False,
        epochs=2,
        batch_size=3,
        crop_hw=(64, 64),
        size_hw=(96, 128),
        eval_every=1,
        augment=GENTLE,
    )
    return replace(config, **changes)


def test_run_starts_from_a_model_and_keeps_what_it_knows_of_each_class(tmp_path) -> None:
    config = small(tmp_path, tmp_path / "run")
    before = begin(replace(config, seed=7)).network
    save_model(tmp_path / "start.safetensors", before, config.spec)
    spec = replace(
        config.spec,
        class_names=("kerb", "road", "sky"),
        palette=((9, 9, 9), *(config.spec.palette[i] for i in (3, 0))),
    )
    started = replace(config, start_from=tmp_path / "start.safetensors")
    after = new_state(spec, started, torch.device("cpu"))
    fresh = new_state(spec, config, torch.device("cpu")).network.state_dict()
    old, new = before.state_dict(), after.network.state_dict()
    for name, tensor in new.items():
        if ".head." in f".{name}":
            torch.testing.assert_close(tensor[1:], old[name][[3, 0]])
            torch.testing.assert_close(tensor[0], fresh[name][0])
        else:
            torch.testing.assert_close(tensor, old[name])
        torch.testing.assert_close(after.average.state_dict()[name], tensor)


def test_model_of_another_architecture_is_no_start(tmp_path) -> None:
    config = small(tmp_path, tmp_path / "run")
    save_model(tmp_path / "start.safetensors", begin(config).network, config.spec)
    with pytest.raises(ConfigError, match=r"width 12.*width 16.*--width"):
        begin(replace(config, width=16, start_from=tmp_path / "start.safetensors"))
    with pytest.raises(ConfigError, match="another --out"):
        train(replace(config, start_from=config.out / "best.safetensors"))
    with pytest.raises(ModelFileError, match="does not exist"):
        begin(replace(config, start_from=tmp_path / "nothing.safetensors"))


def begin(config: TrainConfig) -> TrainState:
    return new_state(config.spec, config, torch.device("cpu"))


@pytest.mark.parametrize(
    ("arch", "width", "amp"),
    [("unet", 8, False), ("unet-lite", 24, False), ("unet-lite", 24, True)],
)
def test_one_batch_can_be_learnt_by_heart(tmp_path, arch, width, amp) -> None:
    config = small(tmp_path, tmp_path / "run", arch=arch, width=width, amp=amp)
    state = begin(config)
    for module in state.network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.p = 0.0
    images, targets = zip(*(scene(seed, 64, 64) for seed in range(2)), strict=True)
    frames = torch.from_numpy(np.stack(images))
    target = torch.from_numpy(np.stack(targets)).long()
    first = train_step(state, frames, target, PLAIN, 1e-2, config)
    for _ in range(60):
        last = train_step(state, frames, target, PLAIN, 1e-2, config)
    assert last < 0.1 < first


def test_encoder_learns_at_a_rate_of_its_own_where_it_is_pretrained(
    tmp_path,
) -> None:
    config = small(tmp_path, tmp_path / "run", encoder_lr_factor=0.5)
    image, target = scene(0, 64, 64)
    frames, truth = torch.from_numpy(image[None]), torch.from_numpy(target[None]).long()
    for pretrained, factor in ((True, 0.5), (False, 1.0)):
        state = begin(replace(config, pretrained=pretrained))
        train_step(state, frames, truth, PLAIN, 1e-3, config)
        rates = {p: group["lr"] for group in state.optimizer.param_groups for p in group["params"]}
        for name, parameter in state.network.named_parameters():
            expected = 1e-3 * (factor if name.startswith("encoder.") else 1.0)
            assert rates[parameter] == pytest.approx(expected), name


@pytest.mark.parametrize("amp", [False, True])
def test_four_steps_equal_two_and_two_after_an_interruption(streets, tmp_path, amp) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(record: dict[str, Any]) -> None:
        if record.get("epoch") is None and record["step"] == 3:
            raise Interrupted

    whole = train(small(streets, tmp_path / "whole", amp=amp))
    # The checkpoint after each step lets the second run lose its third, unfinished one.
    broken = small(streets, tmp_path / "broken", amp=amp, checkpoint_every_s=0.0)
    with pytest.raises(Interrupted):
        train(broken, interrupt)
    assert load_state(tmp_path / "broken" / "last.pt")["step"] == 2
    train(broken)
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("whole", "broken"))
    assert first["step"] == second["step"] == 4
    for part in ("network", "average"):
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), (part, name)
    for key, values in first["optimizer"]["state"].items():
        for name, value in values.items():
            assert torch.equal(value, second["optimizer"]["state"][key][name])
    assert whole.log_path.read_text() == (tmp_path / "broken" / "metrics.jsonl").read_text()
    assert whole.model_path.read_bytes() == (tmp_path / "broken" / "best.safetensors").read_bytes()


def test_run_leaves_log_curves_config_and_a_model_that_scores_as_logged(streets, tmp_path) -> None:
    result = train(small(streets, tmp_path / "run"))
    records = [json.loads(line) for line in result.log_path.read_text().splitlines()]
    assert [r["epoch"] for r in records] == [1, 2]
    assert records[-1]["train"]["loss"] > 0
    assert result.best_miou == max(r["val"]["miou"] for r in records)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["arch"] == "unet-lite"
    page = result.page_path.read_text()
    assert 'class="plot"' in page and "src=" not in page.split("<body>")[0]
    network, spec = load_model(result.model_path)
    scores = evaluate(
        TorchBackend(network, spec), FolderDataset.open(streets, "val"), (96, 128)
    ).scores
    assert scores.miou == pytest.approx(result.best_miou)
    assert spec.metrics["val"]["miou"] == pytest.approx(result.best_miou)
    assert str(tmp_path) not in spec.to_json()


def test_held_out_sequence_is_not_trained_on_and_chooses_the_weights(tmp_path) -> None:
    for sequence, seeds in (("drive1", range(4)), ("drive2", range(4, 6))):
        for seed in seeds:
            write_pair(tmp_path, "train", f"{sequence}_{seed:03d}", *scene(seed))
    write_pair(tmp_path, "val", "drive1_900", *scene(9))
    config = small(tmp_path, tmp_path / "run", epochs=3, holdout_sequence="drive2")
    result = train(config)
    records = [json.loads(line) for line in result.log_path.read_text().splitlines()]
    assert result.best_miou == max(r["holdout"]["miou"] for r in records)
    _, spec = load_model(result.model_path)
    best = max(records, key=lambda r: r["holdout"]["miou"])
    assert spec.metrics == {"val": best["val"], "holdout": best["holdout"]}
    rest, held = FolderDataset.open(tmp_path, "train").hold_out("drive2")
    assert [p.name for p in held.image_paths] == ["drive2_004.png", "drive2_005.png"]
    assert not set(rest.image_paths) & set(held.image_paths) and len(rest) == 4
    state = load_state(tmp_path / "run" / "last.pt")
    assert state["data"]["train"] == rest.check().pixels.tolist()
    assert "held-out sequence" in result.page_path.read_text()


@pytest.mark.parametrize("sequence", ["drive9", ""])
def test_sequence_that_cannot_be_held_out_is_named_with_the_known_ones(streets, sequence) -> None:
    with pytest.raises(DatasetError, match=r"leaves 0 pictures .* 000 \(1\)"):
        FolderDataset.open(streets, "train").hold_out(sequence)


def test_other_settings_do_not_continue_a_run(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=1)
    train(config)
    with pytest.raises(ConfigError, match=r"other settings \(lr 0.002, now 0.001\).*--config"):
        train(replace(config, lr=1e-3))
    with pytest.raises(ConfigError, match=r"settings \(augment mix 0.0, now 0.5\)"):
        train(replace(config, augment=replace(config.augment, mix=0.5)))


def test_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", checkpoint_every_s=0.0)

    def poison(record: dict[str, Any]) -> None:
        if record.get("step") == 1 and "epoch" not in record:
            monkey.setitem(LOSSES, "dice", lambda logits, *_: logits.sum() * torch.nan)

    with pytest.MonkeyPatch.context() as monkey, pytest.raises(ConfigError, match=r"step 1.*--lr"):
        train(config, poison)
    assert load_state(tmp_path / "run" / "last.pt")["step"] == 1


def test_model_without_its_checkpoint_is_not_written_over(streets, tmp_path) -> None:
    (tmp_path / "run").mkdir()
    model = tmp_path / "run" / "best.safetensors"
    model.write_bytes(b"someone's")
    with pytest.raises(ConfigError, match=r"holds best\.safetensors and no last\.pt"):
        train(small(streets, tmp_path / "run"))
    assert model.read_bytes() == b"someone's" and [*model.parent.iterdir()] == [model]


def test_precision_that_a_run_took_is_kept_with_its_settings(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=1)
    train(config)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert config.amp is None and kept["amp"] is uses_amp(None, device)


def test_run_that_ends_in_its_first_measurement_goes_on(streets, tmp_path, monkeypatch) -> None:
    config = small(streets, tmp_path / "run", epochs=1)

    def interrupt(*_: Any) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("roadseg.train.loop.curves_page", interrupt)
        train(config)
    assert (tmp_path / "run" / "best.safetensors").exists()
    log = train(config).log_path.read_text()
    assert log == train(replace(config, out=tmp_path / "whole")).log_path.read_text()


def test_run_that_ends_in_its_first_checkpoint_begins_anew(streets, tmp_path, monkeypatch) -> None:
    config = small(streets, tmp_path / "run", epochs=1)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    for file, name in (("last.pt", "save_state"), ("config.json", "write_run_file")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"roadseg.train.run.{name}", interrupt)
            train(config)
        assert not (config.out / file).exists()
    train(config)
    assert json.loads((config.out / "config.json").read_text())["epochs"] == 1


def test_gradient_that_is_not_finite_leaves_the_weights_as_they_were(tmp_path, monkeypatch) -> None:
    config = small(tmp_path, tmp_path / "run")
    state = begin(config)
    before = {name: tensor.clone() for name, tensor in state.average.state_dict().items()}
    # The root of nothing is finite, and its slope is not.
    monkeypatch.setitem(LOSSES, "dice", lambda logits, *_: (logits.sum() * 0).abs().sqrt())
    image, target = scene(0, 64, 64)
    frames, truth = torch.from_numpy(image[None]), torch.from_numpy(target[None]).long()
    with pytest.raises(ConfigError, match=r"gradient nan at step 0"):
        train_step(state, frames, truth, PLAIN, 1e-3, config)
    for name, tensor in state.average.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    for name, parameter in state.network.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name], rtol=0, atol=0)


def test_data_are_checked_before_anything_is_written(tmp_path) -> None:
    image, target = scene(0)
    write_pair(tmp_path, "train", "a", image, target[:-1])
    write_pair(tmp_path, "val", "b", image, target)
    with pytest.raises(DatasetError, match=r"a\.png"):
        train(small(tmp_path, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 1})

    def half_written(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(bytes(data)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", half_written)
        with pytest.raises(OutputError, match=r"last\.pt cannot be written \(No space left"):
            save_state(path, {"step": 2})
    assert load_state(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_other_data_do_not_continue_a_run(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=1)
    train(config)
    more = tmp_path / "more"
    shutil.copytree(streets, more)
    write_pair(more, "train", "zzz", *scene(99))
    with pytest.raises(ConfigError, match="other data"):
        train(replace(config, data=(str(more),)))


def test_data_that_differ_in_names_alone_do_not_continue_a_run(streets, tmp_path) -> None:
    data = shutil.copytree(streets, tmp_path / "data")
    classes = "name,id\nsky,0\nbuilding,1\n{},3\ncar,8\nunlabelled,11\n"
    (data / "classes.csv").write_text(classes.format("road"))
    config = small(data, tmp_path / "run", epochs=1)
    train(config)
    (data / "classes.csv").write_text(classes.format("street"))
    with pytest.raises(ConfigError, match="other data"):
        train(config)
    (data / "classes.csv").write_text(classes.format("road"))
    for folder in ("train", "trainannot"):  # so another one is the first
        (data / folder / "000.png").rename(data / folder / "zzz.png")
    with pytest.raises(ConfigError, match="other data"):
        train(config)


def test_state_of_before_data_had_a_digest_goes_on(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=1)
    train(config)
    state = load_state(config.out / "last.pt")
    del state["data_sha256"], state["format"]
    save_state(config.out / "last.pt", state)
    assert train(config).epochs == 1


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_user_chooses_how_rare_classes_weigh(streets, tmp_path, monkeypatch, name) -> None:
    given = []

    def loss(logits: torch.Tensor, _: Any, class_weights: torch.Tensor, *__: Any) -> torch.Tensor:
        given.append(class_weights)
        return logits.square().mean()

    monkeypatch.setenv("MALLOC_MMAP_MAX_", "0")  # or the process would start again with it
    monkeypatch.setitem(LOSSES, "dice", loss)
    words = ["train", "--data", str(streets), "--out", str(tmp_path / "run"), "--dry-run", "-q"]
    words += ["--class-weights", name, "--no-pretrained", "--width", "12", "--crop", "64x64"]
    app([*words, "--workers", "0"], standalone_mode=False)
    counts = FolderDataset.open(streets, "train").check()
    expected = CLASS_WEIGHTS[name](counts.pixels, counts.shared_pixels)
    np.testing.assert_array_equal(given[0], expected)


def test_damaged_log_is_named(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=1)
    log = train(config).log_path
    log.write_text(log.read_text()[:-20])
    with pytest.raises(ConfigError, match=r"metrics\.jsonl is damaged; move it away"):
        train(config)
    log.unlink()
    assert train(config).epochs == 1


def test_lone_value_cannot_be_normalised(tmp_path) -> None:
    for changes in ({"batch_size": 1}, {"batch_size": 2, "accumulate": 2}):
        with pytest.raises(ConfigError, match=r"--crop .* must be larger where"):
            small(tmp_path, tmp_path / "run", crop_hw=(32, 32), **changes)
    config = small(tmp_path, tmp_path / "run", crop_hw=(32, 64), batch_size=1)
    image, target = scene(0, 32, 64)
    frames, truth = torch.from_numpy(image[None]), torch.from_numpy(target[None]).long()
    assert train_step(begin(config), frames, truth, PLAIN, 1e-3, config) > 0


def test_run_cannot_take_the_place_of_a_file(streets, tmp_path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ConfigError, match="run is a file; give a folder"):
        train(small(streets, tmp_path / "run"))
    assert (tmp_path / "run").read_text() == "precious"


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("before", [(False, False), (True, False), (True, True)])
def test_run_leaves_pytorchs_determinism_as_it_was(tmp_path, before, wanted) -> None:
    def state() -> tuple[bool, bool]:
        warns = torch.is_deterministic_algorithms_warn_only_enabled()
        return torch.are_deterministic_algorithms_enabled(), warns

    own = state()
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    try:
        with _determinism(small(tmp_path, tmp_path, deterministic=wanted)):
            assert state() == ((True, True) if wanted else before)
        assert state() == before
    finally:
        torch.use_deterministic_algorithms(own[0], warn_only=own[1])


def test_pickle_is_never_run(tmp_path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "pwned",))

    path = tmp_path / "evil.pt"
    torch.save({"format": 1, "x": Evil()}, path)
    with pytest.raises(ModelFileError, match="no training state"):
        load_state(path)
    assert not (tmp_path / "pwned").exists()


def test_damaged_training_state_is_refused_in_one_line(tmp_path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 2, "network": torch.nn.Linear(2, 2).state_dict()})
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for content in (b"", b"hello world", b"\x89PNG", *(rng.bytes(99) for _ in range(50))):
        damaged = bytearray(whole)
        start = int(rng.integers(len(whole)))
        damaged[start : start + len(content)] = content
        for data in (content, bytes(damaged[: start + len(content)])):
            path.write_bytes(data)
            with pytest.raises(
                ModelFileError, match=r"last\.pt is no training state .*--out"
            ) as said:
                load_state(path)
            assert "\n" not in str(said.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_model_file_that_is_not_ours_is_refused(tmp_path, content) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_model(path)


def test_model_file_with_other_weights_is_refused(tmp_path) -> None:
    config = small(tmp_path, tmp_path / "run")
    network = begin(replace(config, width=6)).network
    save_model(tmp_path / "model.safetensors", network, config.spec)
    with pytest.raises(ModelFileError, match="does not fit"):
        load_model(tmp_path / "model.safetensors")


def test_schedule_rises_falls_and_has_the_stated_peak() -> None:
    rates = [learning_rate(step, 100, peak=1.0, warmup=0.1) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates.index(max(rates)) == 10 and max(rates) == 1.0
    assert rates[100] == pytest.approx(0.0)
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_schedule_is_that_of_pytorch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=101, pct_start=11 / 101, final_div_factor=1e9
    )
    for step in range(100):
        expected = schedule.get_last_lr()[0]
        assert learning_rate(step, 100, peak=1.0, warmup=0.1) == pytest.approx(expected, abs=1e-6)
        optimizer.step()
        schedule.step()


def test_confusion_of_training_is_that_of_its_crops(tmp_path) -> None:
    config = small(tmp_path, tmp_path / "run")
    state = begin(config)
    image, target = scene(0, 64, 64)
    frames = torch.from_numpy(image[None])
    train_step(state, frames, torch.from_numpy(target[None]).long(), PLAIN, 1e-3, config)
    assert state.confusion.sum() == confusion_matrix(target, np.zeros_like(target), 11).sum()


def test_parts_of_a_step_sum_to_the_whole_step(tmp_path) -> None:
    # The pictures are equal, so batch normalisation sees the same in each part; dropout does not.
    whole = begin(small(tmp_path, tmp_path / "a", arch="unet", width=4))
    parts = begin(small(tmp_path, tmp_path / "b", arch="unet", width=4, accumulate=2, batch_size=4))
    image, target = scene(0, 64, 64)
    frames = torch.from_numpy(np.stack([image] * 4))
    targets = torch.from_numpy(np.stack([target] * 4)).long()
    first = train_step(whole, frames, targets, PLAIN, 1e-3, small(tmp_path, tmp_path))
    second = train_step(
        parts, frames, targets, PLAIN, 1e-3, small(tmp_path, tmp_path, accumulate=2, batch_size=4)
    )
    assert second == pytest.approx(first, rel=1e-2)
    assert parts.confusion.sum() == whole.confusion.sum()


def test_clipped_gradient_has_at_most_the_norm(tmp_path) -> None:
    config = small(tmp_path, tmp_path / "run", clip_norm=1e-3)
    state = begin(config)
    image, target = scene(0, 64, 64)
    frames, truth = torch.from_numpy(image[None]), torch.from_numpy(target[None]).long()
    train_step(state, frames, truth, PLAIN, 1e-3, config)
    gradients = [p.grad.flatten() for p in state.network.parameters() if p.grad is not None]
    assert torch.cat(gradients).norm() <= 1.01e-3


def test_bfloat16_on_request_learns_alike(tmp_path) -> None:
    image, target = scene(0, 64, 64)
    frames, truth = torch.from_numpy(image[None]), torch.from_numpy(target[None]).long()
    losses = []
    for amp in (False, True):
        config = small(tmp_path, tmp_path / "run", amp=amp)
        losses.append(train_step(begin(config), frames, truth, PLAIN, 1e-3, config))
    assert losses[0] != losses[1] == pytest.approx(losses[0], rel=0.05)


def test_run_stops_when_nothing_gets_better_and_stays_stopped(streets, tmp_path) -> None:
    config = small(streets, tmp_path / "run", epochs=8, lr=1e-12, ema_decay=0.0, patience=2)
    first = train(config)
    records = [json.loads(line) for line in first.log_path.read_text().splitlines()]
    assert first.epochs == len(records) < 8
    best = max(range(len(records)), key=lambda i: records[i]["val"]["miou"])
    assert len(records) == best + 1 + 2
    again = train(config)
    assert again == first


def test_dry_run_checks_the_data_and_writes_nothing(streets, tmp_path) -> None:
    found = rehearse(small(streets, tmp_path / "run"))
    assert found.steps == 4 and found.step_s > 0 and found.loss > 0
    assert found.data.counts.pixels.sum() > 0
    assert not (tmp_path / "run").exists()


def test_classes_of_other_data_go_into_the_model(tmp_path) -> None:
    for split in ("train", "val"):
        for seed in range(3):
            image, target = scene(seed)
            write_pair(tmp_path, split, f"{seed}", image, np.where(target == 8, 9, target))
    (tmp_path / "classes.csv").write_text(
        "name,id,color\nair,0,#0000ff\nhouse,1,#ff0000\nway,3,#777777\n"
        "machine,9,#00ff00\nunlabelled,11,\n"
    )
    result = train(small(tmp_path, tmp_path / "run", epochs=1))
    _, spec = load_model(result.model_path)
    assert spec.class_names == ("air", "house", "way", "machine")
    assert spec.palette[0] == (0, 0, 255)
    records = result.log_path.read_text().splitlines()
    assert set(json.loads(records[-1])["val"]["iou"]) == set(spec.class_names)


def test_page_shows_pictures_of_the_best_weights(streets, tmp_path) -> None:
    result = train(small(streets, tmp_path / "run", epochs=1, pictures=2))
    assert sorted(p.name for p in (tmp_path / "run" / "pictures").iterdir()) == [
        "006.jpg",
        "007.jpg",
    ]
    assert result.page_path.read_text().count("data:image/jpeg;base64,") == 2
