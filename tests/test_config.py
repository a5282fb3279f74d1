from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roadseg.errors import ConfigError, ModelFileError
from roadseg.infer.config import InferConfig, settings_record
from roadseg.settings import read_settings
from roadseg.spec import (
    CLASS_NAMES,
    CLASSES,
    IGNORE_INDEX,
    NO_TEXT,
    NUM_CLASSES,
    PALETTE,
    ModelSpec,
)
from roadseg.train.config import AugmentConfig, TrainConfig

colors = st.tuples(*[st.integers(0, 255)] * 3)
names = st.text(min_size=1).filter(lambda name: not NO_TEXT.search(name))


@given(
    arch=st.text(),
    width=st.integers(1, 512),
    size=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    classes=st.dictionaries(names, colors, min_size=1),
    metrics=st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_model_record_survives_the_round_trip(arch, width, size, classes, metrics) -> None:
    spec = ModelSpec(
        arch=arch,
        width=width,
        size_hw=(32 * size[0], 32 * size[1]),
        class_names=tuple(classes),
        palette=tuple(classes.values()),
        metrics=metrics,
    )
    assert ModelSpec.from_json(spec.to_json(), Path("m")) == spec


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "extra": 2}'])
def test_damaged_model_record_is_refused_with_the_file(text) -> None:
    with pytest.raises(ModelFileError, match=r"model\.onnx carries a damaged"):
        ModelSpec.from_json(text, Path("model.onnx"))


def test_record_of_a_later_version_asks_for_an_update() -> None:
    later = replace(ModelSpec(arch="unet", width=8), format=99).to_json()
    with pytest.raises(ModelFileError, match=r"format 99.*update roadseg"):
        ModelSpec.from_json(later, Path("model.onnx"))


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"epochs": 0}, "--epochs"),
        ({"batch_size": 0}, "--batch-size"),
        ({"width": 0}, "--width"),
        ({"width": 4097}, "--width is 4097; it must be from 1 to 4096"),
        ({"crop_hw": (64, 65)}, r"--crop is \(64, 65\); it must be height and width, multiples"),
        ({"size_hw": (32, 2**20)}, "--size .* up to 16384"),
        ({"data": ()}, "--data .* at least one folder that holds train/"),
        ({"lr": 0.0}, "--lr"),
        ({"lr": float("nan")}, "--lr"),
        ({"workers": -1}, "--workers"),
        ({"seed": -1}, "--seed"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"ema_decay": 1.0}, "--ema-decay"),
        ({"seed": 2**32}, "--seed"),
        ({"arch": "unet", "output_stride": 2}, "--output-stride is 2; it must be 1 for unet"),
        ({"output_stride": 8}, "--output-stride is 8; it must be 2 or 4 for unet-lite"),
    ],
)
def test_bad_training_settings_name_the_flag(changes, flag) -> None:
    with pytest.raises(ConfigError, match=flag):
        TrainConfig(**{"data": ("d",), "out": Path("o"), **changes})


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"alpha": 1.5}, "--alpha"),
        ({"start_s": -1.0}, "--start"),
        ({"start_s": float("nan")}, "--start"),
        ({"start_s": 2.0, "end_s": 1.0}, "--end"),
        ({"end_s": float("inf")}, "--end"),
    ],
)
def test_bad_inference_settings_name_the_flag(changes, flag) -> None:
    with pytest.raises(ConfigError, match=flag):
        InferConfig(source=Path("a"), out=Path("b"), weights=Path("w"), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"mix": 7},
        {"color": -1.0},
        {"camera": float("nan")},
        {"scale": (2.0, 0.5)},
        {"scale": (0, 1)},
    ],
)
def test_bad_strength_of_augmentation_is_named(changes) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=f"--augment {name} is"):
        AugmentConfig(**changes)


@pytest.mark.parametrize(("name", "text"), [("a.toml", 'arch = "ä"'), ("a.json", '{"arch": "ä"}')])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_settings_are_utf_8_with_or_without_a_mark(tmp_path, name, text, encoding) -> None:
    (tmp_path / name).write_text(text, encoding=encoding)
    assert read_settings(tmp_path / name) == {"arch": "ä"}


def test_output_may_not_be_the_input(tmp_path) -> None:
    film = tmp_path / "a.mp4"
    film.write_bytes(b"film")
    link = tmp_path / "b.mp4"
    link.symlink_to(film)
    with pytest.raises(ConfigError, match="--out is the input"):
        InferConfig(source=film, out=link, weights=Path("w"))


def test_classes_are_those_of_camvid_in_order() -> None:
    assert CLASS_NAMES == (
        "sky",
        "building",
        "pole",
        "road",
        "pavement",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
        "unlabelled",
    )
    assert NUM_CLASSES == 11 and IGNORE_INDEX == 255
    assert len(set(PALETTE)) == len(CLASSES)


def test_folder_called_as_a_palette_is_none(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = settings_record(plain)
    (tmp_path / plain.palette).mkdir()
    assert settings_record(plain) == expected
