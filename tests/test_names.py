"""Included models are called by name, by every command and in Python."""

import shutil
from pathlib import Path

import pytest
from conftest import CHECKPOINT, ROOT, SAMPLE, leaf_commands
from typer.testing import CliRunner

import roadseg
from roadseg.backends.runtimes import runtime_of
from roadseg.backends.weights import (
    DEFAULT_MODEL,
    SHIPPED_MODELS,
    default_weights,
    shipped_checkpoint,
    shipped_model,
    weights_named,
)
from roadseg.cli import app
from roadseg.errors import ConfigError, ModelFileError

MACHINES = pytest.mark.parametrize("has_int8_units", [False, True])


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """One without instructions for 8 bits."""
    monkeypatch.setattr("roadseg.backends.weights.has_int8_units", lambda: False)


@pytest.mark.parametrize("name", SHIPPED_MODELS)
@MACHINES
def test_a_name_gives_the_form_that_suits_the_machine(name, has_int8_units, monkeypatch) -> None:
    monkeypatch.setattr("roadseg.backends.weights.has_int8_units", lambda: has_int8_units)
    found, in_8_bits = weights_named(name), shipped_model("int8", name)
    gains = has_int8_units and in_8_bits.is_file()
    assert found == (in_8_bits if gains else shipped_model(name=name))
    assert found.is_file() and runtime_of(found, "onnxruntime")


def test_the_default_comes_in_both_precisions_and_for_the_gpu() -> None:
    assert weights_named(None) == default_weights() == weights_named(DEFAULT_MODEL)
    assert shipped_model("int8").is_file()
    assert shipped_checkpoint().is_file()


def test_on_a_gpu_a_name_gives_the_form_for_it() -> None:
    pytest.importorskip("torch")
    assert weights_named("roads", "cuda:0") == weights_named(None, "cuda:0") == CHECKPOINT
    assert weights_named("unet-lite", "cuda:0") == shipped_model(name="unet-lite")


def test_a_file_of_the_same_name_is_meant_only_as_a_path(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("unet-lite").write_text("mine")
    assert weights_named("unet-lite") == shipped_model(name="unet-lite")
    for path in ("./unet-lite", Path("unet-lite")):
        assert weights_named(path) == Path("unet-lite")


def test_a_shipped_file_is_meant_by_its_name_where_there_is_none_here(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (shipped_model(), shipped_model("int8"), shipped_model(name="unet")):
        assert weights_named(path.name) == path
    assert weights_named("./roads.onnx") == weights_named(Path("roads.onnx")) == Path("roads.onnx")
    for strange in ("README.md", "roads.int4.onnx", "sub/roads.onnx"):
        assert weights_named(strange) == Path(strange)
    Path("roads.onnx").write_text("mine")
    assert weights_named("roads.onnx") == Path("roads.onnx")


def test_a_name_that_nothing_has_is_refused_with_those_that_there_are(streets) -> None:
    with pytest.raises(ModelFileError, match=f"is included: {', '.join(SHIPPED_MODELS)}"):
        roadseg.segment(SAMPLE, weights="rods")
    done = CliRunner().invoke(app, ["evaluate", "--data", str(streets), "--weights", "rods"])
    assert f"is included: {', '.join(SHIPPED_MODELS)}" in str(done.exception)


def test_python_takes_names() -> None:
    size_hw = (32, 64)
    path = shipped_model(name="unet-lite")
    by_path = next(roadseg.stream(SAMPLE, weights=path, size_hw=size_hw, end_s=0.1))
    by_name = next(roadseg.stream(SAMPLE, weights="unet-lite", size_hw=size_hw, end_s=0.1))
    assert (by_path.class_map == by_name.class_map).all()
    with roadseg.load("unet-lite") as model:
        assert repr(model) == "<Model unet-lite.onnx>"


def test_commands_take_names(streets, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = ["--weights", "unet-lite", "--against", "roads.onnx"]
    measured = CliRunner().invoke(app, ["evaluate", "--data", str(streets), *models])
    assert measured.exit_code == 0, measured.output
    assert "unet-lite.onnx against roads.onnx" in measured.output
    short = ["--weights", "unet-lite", "--size", "64x32", "--end", "0.1", "--out", "out.mp4"]
    labelled = CliRunner().invoke(app, ["infer", str(SAMPLE), *short])
    assert labelled.exit_code == 0 and Path("out.mp4").is_file(), labelled.output


def test_two_models_of_one_name_go_by_their_folders_and_one_is_not_measured_twice(
    streets, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/one", "runs/other"):
        Path(folder).mkdir(parents=True)
        shutil.copy(shipped_model(name="unet-lite"), Path(folder, "best.onnx"))
    command = ["evaluate", "--data", str(streets), "--weights", "runs/one/best.onnx"]
    measured = CliRunner().invoke(app, [*command, "--against", "runs/other/best.onnx"])
    assert measured.output.startswith("one/best.onnx against other/best.onnx on val")
    twice = CliRunner().invoke(app, [*command, "--against", str(tmp_path / "runs/one/best.onnx")])
    assert isinstance(twice.exception, ConfigError) and "name another" in str(twice.exception)


def test_every_command_that_labels_says_the_names() -> None:
    options = [
        parameter
        for command in leaf_commands().values()
        for parameter in command.params
        if parameter.name == "weights"
    ]
    assert len(options) >= 6
    assert all(option.metavar == "NAME|FILE" for option in options)


def test_the_wheel_carries_the_default_in_both_precisions_and_the_others_in_one() -> None:
    listed = (ROOT / "pyproject.toml").read_text()
    forms = [shipped_model(name=name) for name in SHIPPED_MODELS] + [shipped_model("int8")]
    carried = {line.split('"')[1] for line in listed.splitlines() if line.startswith('"weights/')}
    assert {path for path in carried if path.endswith(".onnx")} == {
        path.relative_to(ROOT).as_posix() for path in forms
    }
