"""A build is the model that it was made of, says what it is, and runs nowhere else."""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("roadseg.backends.openvino_silent")

import av
import numpy as np
import onnx
from conftest import CHECKPOINT, SAMPLE, WEIGHTS, both
from numpy.typing import NDArray

from roadseg.backends.openvino_silent import ov
from roadseg.backends.runtimes import open_backend
from roadseg.data.folder import FolderDataset
from roadseg.deploy.builders import open_builder
from roadseg.deploy.compile import (
    LEAST_AGREEMENT,
    CompileConfig,
    CompileResult,
    compile_model,
    report_path,
)
from roadseg.errors import BackendUnavailable, ConfigError, ExportError, ModelFileError, VideoError
from roadseg.measure.evaluate import evaluate

SIZE_HW = (96, 160)
RUNTIMES = ("onnxruntime", "openvino")


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALIBRATION_FRAMES", "CHECK_FRAMES"):
        monkeypatch.setattr(f"roadseg.deploy.parity.{name}", 12)
    monkeypatch.setattr("roadseg.deploy.parity.ROUNDS", 3)


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Two frames of the sample, at another size than the builds were made for."""
    with av.open(SAMPLE) as container:
        decoded = list(container.decode(video=0))[::150]
    return np.stack([f.to_ndarray(width=224, height=128, format="rgb24") for f in decoded])


@pytest.fixture
def config(tmp_path: Path) -> CompileConfig:
    out = tmp_path / "built.onnx"
    return CompileConfig(
        model=WEIGHTS, runtime="onnxruntime", film=SAMPLE, size_hw=SIZE_HW, out=out
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], CompileResult]:
    """One build for each runtime; tests copy what they change."""
    made: dict[str, CompileResult] = {}

    def build(runtime: str) -> CompileResult:
        if runtime not in made:
            out = tmp_path_factory.mktemp(runtime) / f"built{open_builder(runtime).SUFFIX}"
            made[runtime] = compile_model(
                CompileConfig(model=WEIGHTS, runtime=runtime, film=SAMPLE, size_hw=SIZE_HW, out=out)
            )
        return made[runtime]

    return build


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_build_decides_as_its_source_in_8_bits(built, runtime, frames) -> None:
    result = built(runtime)
    assert result.rebuilt_because == "there was no such file"
    assert result.parity.frames == 12
    with (
        closing(open_backend(result.out, runtime)) as build,
        closing(open_backend(CHECKPOINT, "torch")) as source,
    ):
        class_map, logits = both(build, frames)
        expected, expected_logits = both(source, frames)
        assert (class_map == expected).mean() > 0.97  # 8 bits move edges by a pixel
        assert logits.shape == expected_logits.shape
        assert build.spec == replace(source.spec, build=result.build)
    assert result.parity.agreement > 0.98
    assert result.layers["int8"] > 30


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_is_known_of_a_build_lies_beside_it(built, runtime) -> None:
    result = built(runtime)
    record = json.loads(report_path(result.out).read_text())
    assert record["layers"] == result.layers
    assert record["parity"]["agreement"] == result.parity.agreement
    assert record["race"]["speedup"] == result.timing.speedup > 0
    suffixes = {".onnx", ".json"} if runtime == "onnxruntime" else {".xml", ".bin", ".json"}
    assert {path.suffix for path in result.out.parent.iterdir()} == suffixes


def test_building_leaves_standard_output_to_the_caller(config, tmp_path, capfd) -> None:
    compile_model(replace(config, runtime="openvino", out=tmp_path / "built.xml"))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_build_that_still_fits_is_left_alone(built, runtime) -> None:
    result = built(runtime)
    before = result.out.stat().st_mtime_ns
    again = compile_model(
        CompileConfig(model=WEIGHTS, runtime=runtime, film=SAMPLE, size_hw=SIZE_HW, out=result.out)
    )
    assert again == replace(result, rebuilt_because=None)
    assert result.out.stat().st_mtime_ns == before


def test_build_is_made_anew_when_its_key_changes_and_says_why(config) -> None:
    compile_model(config)
    other = compile_model(replace(config, size_hw=(64, 96)))
    assert other.rebuilt_because == "shape was 1x96x160 and is 1x64x96"
    portable = compile_model(replace(config, size_hw=(64, 96), portable=True))
    assert "device was" in portable.rebuilt_because and "is None" in portable.rebuilt_because
    config.out.write_bytes(config.out.read_bytes() + b"\0")
    mended = compile_model(replace(config, size_hw=(64, 96), portable=True))
    assert mended.rebuilt_because == f"{config.out} is not what was written"


def test_build_whose_weights_are_gone_or_changed_is_made_anew(tmp_path) -> None:
    config = CompileConfig(
        model=WEIGHTS, runtime="openvino", precision="fp32", film=SAMPLE, size_hw=SIZE_HW
    )
    config = replace(config, out=tmp_path / "built.xml")
    first, weights = compile_model(config), tmp_path / "built.bin"
    whole = weights.read_bytes()
    for damage in (weights.unlink, lambda: weights.write_bytes(whole[:-4])):
        damage()
        assert compile_model(config).rebuilt_because is not None
        assert weights.read_bytes() == whole
    assert compile_model(config).build == first.build


@pytest.mark.parametrize(
    "change",
    [
        {"parity": {"frames": 12, "agreement": "all", "miou": None, "source_miou": None}},
        {"layers": ["int8"]},
        {"race": None},
        {"build": []},
    ],
)
def test_build_with_a_report_that_makes_no_sense_is_made_anew(built, tmp_path, change) -> None:
    config, out = copied(built("onnxruntime").out, tmp_path)
    report_path(out).write_text(json.dumps(json.loads(report_path(out).read_text()) | change))
    assert compile_model(config).rebuilt_because == f"{report_path(out)} is damaged"


def copied(build: Path, folder: Path) -> tuple[CompileConfig, Path]:
    """A copy of a build, and the settings that it was made by."""
    out = folder / build.name
    for source, copy in ((build, out), (report_path(build), report_path(out))):
        copy.write_bytes(source.read_bytes())
    config = CompileConfig(
        model=WEIGHTS, runtime="onnxruntime", film=SAMPLE, size_hw=SIZE_HW, out=out
    )
    return config, out


def test_8_bits_without_what_makes_them_say_what_to_install(config, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(BackendUnavailable, match="pip install nncf, or use another --precision"):
        compile_model(replace(config, runtime="openvino", out=tmp_path / "built.xml"))


def test_build_on_another_film_is_made_anew(config, tmp_path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(SAMPLE.read_bytes())
    first = compile_model(replace(config, film=film))
    moved = film.rename(tmp_path / "moved.mp4")
    assert compile_model(replace(config, film=moved)).rebuilt_because is None
    moved.write_bytes(moved.read_bytes() + bytes(8))
    again = compile_model(replace(config, film=moved))
    assert str(again.rebuilt_because).startswith("frames sha256 was ")
    assert again.build == replace(first.build, frames_sha256=again.build.frames_sha256)
    with pytest.raises(VideoError, match="does not exist"):
        compile_model(replace(config, film=tmp_path / "none.mp4"))


def test_build_from_other_weights_is_made_anew(config, tmp_path) -> None:
    compile_model(config)
    other = onnx.load(WEIGHTS)
    other.doc_string = "changed"
    onnx.save(other, tmp_path / "other.onnx")
    again = compile_model(replace(config, model=tmp_path / "other.onnx"))
    assert again.rebuilt_because.startswith("source sha256 was")


def test_checkpoint_is_exported_on_the_way(config) -> None:
    from_export = compile_model(config)
    from_checkpoint = compile_model(replace(config, model=CHECKPOINT, rebuild=True))
    assert from_checkpoint.layers == from_export.layers
    assert from_checkpoint.parity.agreement == pytest.approx(from_export.parity.agreement, abs=0.01)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_build_for_another_device_or_version_is_not_run(built, runtime, tmp_path) -> None:
    result = built(runtime)
    for change in ({"device": "x86_64 with AVX9"}, {"runtime_version": "0.1"}):
        stale = _with_build(result.out, tmp_path, replace(result.build, **change))
        with pytest.raises(ModelFileError, match=r"compiled for .*; run roadseg compile again"):
            open_backend(stale, runtime)


def test_build_for_one_runtime_is_not_run_by_another_unless_portable(
    built, tmp_path, frames
) -> None:
    result = built("onnxruntime")
    with pytest.raises(ModelFileError, match="compiled for onnxruntime"):
        open_backend(result.out, "openvino")
    free = replace(result.build, runtime_version=None, device=None)
    portable = _with_build(result.out, tmp_path, free)
    maps = []
    for runtime in RUNTIMES:
        with closing(open_backend(portable, runtime)) as backend:
            maps.append(backend.run(frames).class_map)
    assert (maps[0] == maps[1]).mean() > 0.97  # they round sums of 8 bits in their own ways


def _with_build(path: Path, folder: Path, build) -> Path:
    """A copy of a build with another record."""
    changed = folder / path.name
    with closing(open_backend(path, build.runtime)) as backend:
        record = replace(backend.spec, build=build).to_json()
    if path.suffix == ".onnx":
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"roadseg": record})
        onnx.save(model, changed)
    else:
        graph = ov.Core().read_model(path)
        graph.set_rt_info(record, ["framework", "roadseg"])
        ov.save_model(graph, changed, compress_to_fp16=False)
    return changed


def test_labelled_pictures_count_as_evaluate_counts_them(config, streets, monkeypatch) -> None:
    monkeypatch.setitem(LEAST_AGREEMENT, "int8", 0.5)  # streets of rectangles say little to it
    monkeypatch.setattr("roadseg.deploy.compile.MOST_LOST", 1.0)
    result = compile_model(replace(config, film=None, data=streets, size_hw=(96, 128)))
    with closing(open_backend(config.out)) as build, closing(open_backend(WEIGHTS)) as source:
        val = FolderDataset.open(streets, "val")
        found = [evaluate(model, val, (96, 128)).scores.miou for model in (build, source)]
    assert result.parity.miou == pytest.approx(found[0])
    assert result.parity.source_miou == pytest.approx(found[1], abs=1e-3)  # another runtime


@pytest.mark.parametrize(
    ("agreement", "lost", "message"),
    [
        (1.1, 1.0, r"agrees with its source on \d+\.\d+% of pixels"),
        (0.5, -1.0, "at most -100.0% may be lost"),
    ],
)
def test_build_that_is_another_model_is_refused(
    config, streets, monkeypatch, agreement, lost, message
) -> None:
    monkeypatch.setattr("roadseg.deploy.compile.LEAST_AGREEMENT", {"int8": agreement})
    monkeypatch.setattr("roadseg.deploy.compile.MOST_LOST", lost)
    with pytest.raises(ExportError, match=message):
        compile_model(replace(config, film=None, data=streets))
    assert not list(config.out.parent.glob("built*"))


def test_settings_that_cannot_be_used_are_refused(config, tmp_path, built) -> None:
    with pytest.raises(ConfigError, match=r"neither --data nor --film is given; .* give --film"):
        replace(config, film=None)
    with pytest.raises(ConfigError, match=r"--data and --film are given; .* give --film"):
        replace(config, data=tmp_path)
    with pytest.raises(ConfigError, match="--batch is 0"):
        replace(config, batch=0)
    with pytest.raises(ConfigError, match="--backend is 'abacus'; use one of: onnxruntime"):
        compile_model(replace(config, runtime="abacus"))
    with pytest.raises(ConfigError, match="--precision is 'int4'; for onnxruntime use one of"):
        compile_model(replace(config, precision="int4"))
    with pytest.raises(ConfigError, match=r"must end in \.onnx"):
        compile_model(replace(config, out=tmp_path / "built.xml"))
    with pytest.raises(ConfigError, match="was compiled already"):
        compile_model(replace(config, model=built("onnxruntime").out))
    with pytest.raises(VideoError, match=r"none\.mp4"):
        compile_model(replace(config, film=tmp_path / "none.mp4"))
