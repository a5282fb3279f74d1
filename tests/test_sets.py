"""Several data sets at once: how they are named, shared out and numbered, and labels of sets."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from conftest import CAMVID, scene, script, write_pair
from test_train import small

from roadseg.backends.torch import TorchBackend
from roadseg.data.folder import FolderDataset
from roadseg.data.meaning import LabelMeaning
from roadseg.data.sets import LabelSpace, classes_named
from roadseg.data.source import SCHEMAS, DataSource
from roadseg.errors import ConfigError, DatasetError
from roadseg.measure.evaluate import evaluate
from roadseg.models.checkpoint import load_model
from roadseg.spec import CLASSES, IGNORE_INDEX, NUM_CLASSES, SegClass
from roadseg.train.config import AugmentConfig, TrainConfig
from roadseg.train.loader import Mixture, Sampling, batches
from roadseg.train.loop import rehearse, train
from roadseg.train.run import load_state

GROUPS = "name,id\nroad,0\nsky|building,1\ncar|bicyclist,2\nunlabelled,255\n"
GROUP_OF = np.full(256, 255, np.uint8)
GROUP_OF[[3, 0, 1, 8]] = [0, 1, 1, 2]
CAMVID_CLASSES = CLASSES[:NUM_CLASSES]


@pytest.fixture
def abroad(tmp_path) -> Path:
    """Six drives with coarse labels beside CamVid's, without val/."""
    root = tmp_path / "abroad"
    for seed in range(12):
        image, target = scene(100 + seed, 48, 64)
        write_pair(root, "train", f"{seed // 2}_{seed}", image, target)
        (root / "traingroup").mkdir(exist_ok=True)
        _, data = cv2.imencode(".png", GROUP_OF[target])
        (root / "traingroup" / f"{seed // 2}_{seed}.png").write_bytes(data.tobytes())
    (root / "classes.csv").write_text(GROUPS)
    return root


def meaning(tmp_path: Path, text: str) -> LabelMeaning:
    (tmp_path / "some.csv").write_text(text)
    return LabelMeaning.read(tmp_path / "some.csv")


def test_sets_are_numbered_after_the_classes_and_alike_in_all_data(tmp_path) -> None:
    first = meaning(tmp_path, "name,id\nroad,7\ncar | bicyclist,1\n")
    second = meaning(tmp_path, "name,id\nbicyclist|car,4\ntree|sky,2\nunlabelled,9\n")
    space = LabelSpace.of(CAMVID_CLASSES, [first, second])
    assert [label.name for label in space.sets] == ["car|bicyclist", "sky|tree"]
    assert [np.flatnonzero(row).tolist() for row in space.members] == [[8, 10], [0, 5]]
    assert space.renumber(first).ids == {7: 3, 1: NUM_CLASSES}
    assert space.renumber(second).ids == {4: NUM_CLASSES, 2: NUM_CLASSES + 1, 9: IGNORE_INDEX}
    assert [c.name for c in classes_named(second)] == ["bicyclist", "car", "tree", "sky"]


def test_labels_of_plain_classes_keep_their_numbers() -> None:
    camvid = LabelMeaning.camvid()
    space = LabelSpace.of(camvid.classes, [camvid])
    assert not space.sets and space.renumber(camvid) == camvid


def test_class_that_the_others_do_not_have_is_named(tmp_path) -> None:
    trams = meaning(tmp_path, "name,id\nroad,0\ncar|tram,1\n")
    with pytest.raises(DatasetError, match=r"'car\|tram' is of the class 'tram', .* among sky, "):
        LabelSpace.of(CAMVID_CLASSES, [trams])
    tram = meaning(tmp_path, "name,id\nroad,0\ntram,1\n")
    with pytest.raises(DatasetError, match="the label 'tram' is not among sky, "):
        LabelSpace.of(CAMVID_CLASSES, [tram])


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.csv")), ids=lambda path: path.stem)
def test_included_class_files_speak_of_camvids_classes(path) -> None:
    labels = LabelMeaning.read(path)
    space = LabelSpace.of(CAMVID_CLASSES, [labels])
    assert {i for i in space.renumber(labels).ids.values() if i != IGNORE_INDEX} >= {3}
    assert IGNORE_INDEX in labels.ids.values()


def test_data_are_named_with_class_file_and_share(tmp_path, abroad) -> None:
    plain = DataSource.parse(str(abroad))
    assert (plain.root, plain.class_file, plain.share) == (abroad, None, None)
    shared = DataSource.parse(f"{abroad}:idd_lite=0.25")
    assert (shared.root, shared.share) == (abroad, 0.25)
    assert shared.class_file == SCHEMAS / "idd_lite.csv"
    own = DataSource.parse(f"{abroad}:{abroad / 'classes.csv'}")
    assert own.class_file == abroad / "classes.csv" and own.name == "abroad"
    odd = tmp_path / "a:b=c"
    odd.mkdir()
    assert DataSource.parse(str(odd)).root == DataSource.single(str(odd)).root == odd
    with pytest.raises(ConfigError, match="share, which only roadseg train takes"):
        DataSource.single(f"{abroad}=0.5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("d=half", "share 'half'; it must be above 0 and below 1"),
        ("d=1.5", "share '1.5'"),
        (
            "d:nothing",
            "no class file nothing; .* included: bdd100k, cityscapes, comma10k, idd, idd_l",
        ),
    ],
)
def test_name_of_data_that_is_none_is_refused(text, said) -> None:
    with pytest.raises(ConfigError, match=said):
        DataSource.parse(text)


def test_coarse_labels_have_a_folder_of_their_own(abroad) -> None:
    image, target = FolderDataset.open(abroad, "train")[0]
    assert image.shape == (48, 64, 3) and set(np.unique(target)) <= {0, 1, 2, IGNORE_INDEX}
    (abroad / "classes.csv").unlink()
    assert FolderDataset.open(abroad, "train").label_paths[0].parent.name == "trainannot"


def test_data_without_val_are_measured_on_a_fifth_of_their_drives(abroad) -> None:
    train_set, val = (FolderDataset.open(abroad, split) for split in ("train", "val"))
    assert len(val.sequences) == 1 and len(val) == 2 and val.name == "val"
    rest = train_set.without(val)
    assert len(rest) == 10 and not set(rest.sequences) & set(val.sequences)


@pytest.mark.parametrize(
    ("shares", "counts"),
    [([None], (8,)), ([None, 0.5], (4, 4)), ([None, 0.25, None], (3, 2, 3)), ([0.9, 0.1], (7, 1))],
)
def test_a_batch_is_divided_by_the_shares(streets, shares, counts) -> None:
    dataset = FolderDataset.open(streets, "train")
    assert Mixture.of([dataset] * len(shares), shares, 8).counts == counts


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ([0.5, 0.4], "make 0.9 together; they must make 1; change"),
        ([0.6, 0.6], "make 1.2 together; they must make 1; change"),
        ([0.5, 0.5, None], "make 1 together; they must make less than 1"),
        ([None, 0.01], "give 8, 0 samples of a batch of 8"),
    ],
)
def test_shares_that_do_not_fit_are_refused(streets, shares, said) -> None:
    dataset = FolderDataset.open(streets, "train")
    with pytest.raises(ConfigError, match=f"the shares of --data {said}"):
        Mixture.of([dataset] * len(shares), shares, 8)


def mixed(streets: Path, abroad: Path, first_step: int, workers: int = 0) -> list[np.ndarray]:
    datasets = [FolderDataset.open(root, "train") for root in (streets, abroad)]
    augmentation = AugmentConfig(mix=0.5, fourier=0.5)
    found = batches(
        Mixture.of(datasets, [None, 0.5], 4),
        Sampling(crop_hw=(64, 64), augmentation=augmentation, rare=(8,), seed=5),
        epochs=3,
        first_step=first_step,
        workers=workers,
    )
    return [frames.numpy() for frames, _ in found]


def test_batches_of_two_data_sets_depend_on_seed_and_step_alone(streets, abroad) -> None:
    whole = mixed(streets, abroad, 0)
    assert len(whole) == 9  # three epochs of the first data set's six pictures, two a step
    for resumed in (mixed(streets, abroad, 5), mixed(streets, abroad, 5, workers=1)):
        np.testing.assert_array_equal(resumed, whole[5:])


def test_first_data_set_gives_the_samples_that_it_gives_alone(streets, abroad) -> None:
    first, second = (FolderDataset.open(root, "train") for root in (streets, abroad))

    augmentation = AugmentConfig(mix=0.5)
    sampling = Sampling(crop_hw=(64, 64), augmentation=augmentation, rare=(8,), seed=5)

    def first_batch(mixture: Mixture) -> np.ndarray:
        found = batches(mixture, sampling, epochs=1, first_step=0, workers=0)
        return next(found)[0].numpy()

    alone = first_batch(Mixture.of([first], [None], 2))
    beside = first_batch(Mixture.of([first, second], [None, 0.5], 4))
    np.testing.assert_array_equal(beside[:2], alone)


def test_run_on_two_data_sets_goes_on_to_the_same_bytes_and_measures_both(
    streets, abroad, tmp_path
) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(record: dict[str, object]) -> None:
        if record.get("epoch") is None and record["step"] == 3:
            raise Interrupted

    def config(name: str, **changes: object) -> TrainConfig:
        settings = {
            "data": (str(streets), f"{abroad}=0.5"),
            "batch_size": 4,
            "augment": AugmentConfig(fourier=0.5),
        }
        return replace(small(streets, tmp_path / name), **{**settings, **changes})

    whole = train(config("whole"))
    broken = config("broken", checkpoint_every_s=0.0)
    with pytest.raises(Interrupted):
        train(broken, interrupt)
    train(broken)
    assert whole.log_path.read_text() == (tmp_path / "broken" / "metrics.jsonl").read_text()
    assert whole.model_path.read_bytes() == (tmp_path / "broken" / "best.safetensors").read_bytes()
    record = json.loads(whole.log_path.read_text().splitlines()[-1])
    assert set(record["abroad"]["within"]) == {"sky|building", "car|bicyclist"}
    state = load_state(tmp_path / "whole" / "last.pt")
    assert set(state["data"]) == {"train", "val", "abroad train", "abroad"}
    with pytest.raises(ConfigError, match=r"other settings .*shares"):
        train(config("whole", data=(str(streets), f"{abroad}=0.25")))
    network, spec = load_model(whole.model_path)
    assert spec.class_names == tuple(c.name for c in CAMVID_CLASSES)
    scores = evaluate(TorchBackend(network, spec), FolderDataset.open(abroad, "val"), (96, 128))
    assert scores.scores.pixel_accuracy == pytest.approx(spec.metrics["abroad"]["pixel_accuracy"])


@pytest.mark.parametrize("name", ["train", "val", "holdout", "step", "lr"])
def test_other_data_may_have_the_name_of_anything_in_the_log(
    streets, abroad, tmp_path, name
) -> None:
    data = (str(streets), f"{abroad.rename(tmp_path / name)}=0.5")
    config = replace(small(streets, tmp_path / "run"), data=data, batch_size=4, epochs=1)
    log = train(config).log_path
    (record,) = map(json.loads, log.read_text().splitlines())
    assert set(record) == {"epoch", "step", "lr", "train", "val", f"{name} 2"}
    assert record["step"] == 3 and "loss" in record["train"]
    assert set(load_state(tmp_path / "run" / "last.pt")["data"]) == {
        *("train", "val", f"{name} 2 train", f"{name} 2"),
    }


def test_coarse_data_alone_can_be_trained_on(abroad, tmp_path) -> None:
    config = small(abroad, tmp_path / "run", pretrained=False, epochs=1)
    assert train(config).metric == "miou"  # of the road, which is labelled alone
    found = rehearse(config)
    assert [c.name for c in found.data.space.classes] == [
        "road", "sky", "building", "car", "bicyclist",
    ]  # fmt: skip
    assert np.isfinite(found.loss) and found.data.counts.pixels.min() > 0


def test_weights_are_compared_by_accuracy_where_sets_alone_are_labelled(abroad, tmp_path) -> None:
    sets = "name,id\nroad|pavement,0\nsky|building,1\ncar|bicyclist,2\nunlabelled,255\n"
    (abroad / "classes.csv").write_text(sets)
    result = train(small(abroad, tmp_path / "run", epochs=1))
    (record,) = map(json.loads, result.log_path.read_text().splitlines())
    assert record["val"]["miou"] is None and result.metric == "pixel_accuracy"
    assert result.best_miou == record["val"]["pixel_accuracy"] > 0


class Answers(torch.nn.Module):
    """A network that gives every pixel of a picture the class that its red level says."""

    def __init__(self) -> None:
        super().__init__()
        self.certainty = torch.nn.Parameter(torch.tensor(9.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = (images[:, 0] * 128 + 127).round().long() % 11  # grey beside a picture is above
        return torch.nn.functional.one_hot(red, 11).movedim(-1, 1) * self.certainty


def answering() -> TorchBackend:
    return TorchBackend(Answers(), TrainConfig(data=("d",), out=Path("o")).spec)


def test_pixels_count_as_right_within_their_set_and_iou_where_the_label_tells(tmp_path) -> None:
    truth = np.repeat(np.array([0, 1, 2, 255], np.uint8), 8 * 32).reshape(32, 32)
    found = np.full((32, 32), 3, np.uint8)  # road, everywhere but for:
    found[0, :16] = 5  # half a row of road is tree
    found[8:12] = 1  # half of sky|building is building, the rest of it road
    found[16:24] = 10  # all of car|bicyclist is bicyclist
    write_pair(tmp_path, "val", "a", np.repeat(found[..., None], 3, axis=2), truth)
    _, data = cv2.imencode(".png", truth)
    (tmp_path / "valannot" / "a.png").write_bytes(data.tobytes())
    (tmp_path / "classes.csv").write_text(GROUPS)
    scores = evaluate(answering(), FolderDataset.open(tmp_path, "val"), (32, 32)).scores
    assert scores.sets.summary() == {"sky|building": 0.5, "car|bicyclist": 1.0}
    assert scores.pixel_accuracy == pytest.approx((240 + 128 + 256) / 768)
    assert scores.iou[3] == pytest.approx(240 / (256 + 128))  # road on sky|building is wrong
    assert np.isnan(np.delete(scores.iou, 3)).all() and scores.miou == scores.iou[3]
    assert scores.summary()["within"]["sky|building"] == 0.5


@pytest.mark.skipif(not CAMVID.is_dir(), reason="needs ../shared/data/CamVid")
def test_idd_lite_and_comma10k_are_read_by_the_included_class_files() -> None:
    for name, pictures in (("idd_lite", 241), ("abroad/comma10k", 2)):
        root = CAMVID.parent / name
        dataset = DataSource.parse(f"{root}:{root.name}").open("val")
        assert len(dataset) == pictures and dataset.label_paths[0].parent.name == "traingroup"
        groups = set(range(len(dataset.meaning.classes)))
        assert set(np.unique(dataset[0][1])) <= groups | {IGNORE_INDEX}


def test_set_is_narrowed_where_a_teacher_is_sure_within_it() -> None:
    narrow = script("narrow_labels")
    space = LabelSpace(classes=CLASSES[:3], sets=(SegClass(name="sky|pole", color=(0, 0, 0)),))
    probabilities = np.array([[0.05, 0.9, 0.05], [0.4, 0.2, 0.4], [0.19, 0.8, 0.01]], np.float32)
    target = np.array([[3, 3, 3]], np.uint8)
    found = narrow.narrowed_target(target, probabilities.T[:, None], space, 0.8, 0.15)
    assert found.tolist() == [[3, 3, 0]]  # too little of the set, not sure, sure
