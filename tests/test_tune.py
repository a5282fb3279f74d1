"""A machine's choice of runtime and precision: kept, used, and refused when it does not hold."""

import json
import os
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from conftest import SAMPLE, patience

from roadseg.backends import tuned
from roadseg.backends.runtimes import open_backend
from roadseg.backends.tuned import (
    Choice,
    cache_folder,
    choice_file,
    keep_choice,
    kept_choice,
    kept_folder,
)
from roadseg.backends.weights import shipped_model
from roadseg.cli.doctor import doctor
from roadseg.cli.examine import examine
from roadseg.deploy.tune import _build_bfloat16, candidates, tune
from roadseg.errors import ModelFileError, OutputError
from roadseg.infer.config import InferConfig
from roadseg.infer.outputs import as_begun
from roadseg.video.write.part import note_settings, settings_path

CHOICE = Choice(weights=shipped_model("fp32").resolve(), backend="onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")


def roadseg(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roadseg", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=patience(110),
    )


def test_all_that_is_installed_is_measured_and_the_quickest_is_kept() -> None:
    found = tune(seconds=0, least_rounds=1)
    assert {trial.candidate for trial in found.trials} == set(candidates())
    timed = {t.cpu_ms: t.candidate for t in found.trials if t.cpu_ms is not None}
    fastest = timed[min(timed)]
    assert (found.choice.backend, found.choice.weights.name) == (
        fastest.backend,
        fastest.weights.name,
    )
    assert kept_choice() == found.choice
    with closing(open_backend(found.choice.weights, found.choice.backend)) as backend:
        assert backend.spec.arch == "unet-lite"


def test_doctor_tells_what_it_chose_and_goes_on_telling(monkeypatch, capsys) -> None:
    quick = partial(tune, seconds=0, least_rounds=1)
    monkeypatch.setattr("roadseg.deploy.tune.tune", quick)
    doctor(tune=True, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert Path(told["choice"]["weights"]).is_file()
    assert [trial["backend"] for trial in told["trials"]].count("onnxruntime") >= 1
    found = next(finding for finding in examine() if finding.name == "model")
    assert found.works and told["choice"]["backend"] in found.detail
    monkeypatch.setattr(tuned, "cpu_name", lambda: "another CPU")
    found = next(finding for finding in examine() if finding.name == "model")
    assert not found.works and "doctor --tune again" in found.remedy


def test_without_a_choice_there_is_none() -> None:
    assert kept_choice() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("cpu_name", "another CPU"), ("core_count", 1000), ("_version", "99"), ("_digest", "other")],
)
def test_choice_for_other_circumstances_is_refused(monkeypatch, name, value) -> None:
    keep_choice(CHOICE, [])
    assert kept_choice() == CHOICE
    monkeypatch.setattr(tuned, name, lambda *_: value)
    with pytest.raises(ModelFileError, match="does not hold here"):
        kept_choice()


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"weights": 3}', bytes(range(256))])
def test_damaged_choice_is_refused(data) -> None:
    cache_folder().mkdir(parents=True)
    choice_file().write_bytes(data)
    with pytest.raises(ModelFileError, match="it is damaged"):
        kept_choice()


@pytest.mark.parametrize("backend", ["torch", "", ["openvino"], None, {}])
def test_choice_of_a_runtime_that_is_not_tried_is_damaged(backend) -> None:
    keep_choice(CHOICE, [])
    record = json.loads(choice_file().read_text())
    choice_file().write_text(json.dumps(record | {"backend": backend}))
    with pytest.raises(ModelFileError, match="it is damaged"):
        kept_choice()


def test_model_that_is_built_again_is_a_new_file_and_one_without_its_weights_no_choice() -> None:
    pytest.importorskip("roadseg.backends.openvino_silent")
    model = cache_folder() / "roads.bf16.xml"
    weights = model.with_suffix(".bin")
    _build_bfloat16(model)
    with weights.open("rb") as under_way:  # of a run that reads its weights
        _build_bfloat16(model)
        assert not os.path.samestat(os.fstat(under_way.fileno()), weights.stat())
        assert under_way.read() == weights.read_bytes()
    assert {path.name for path in cache_folder().iterdir()} == {"roads.bf16.xml", "roads.bf16.bin"}
    keep_choice(Choice(weights=model, backend="openvino"), [])
    assert kept_choice() is not None
    weights.unlink()
    with pytest.raises(ModelFileError, match="is not what was measured"):
        kept_choice()


def test_choice_is_used_where_nothing_is_named(tmp_path) -> None:
    weights = tmp_path / "quickest.onnx"
    weights.write_bytes(CHOICE.weights.read_bytes())
    keep_choice(Choice(weights=weights, backend="onnxruntime"), [])
    report = tmp_path / "drive.html"
    done = roadseg(
        "infer", SAMPLE, "--out", tmp_path / "out.mp4", "--end", "0.1", "--report", report
    )
    assert done.returncode == 0, done.stderr
    assert "quickest.onnx, backend onnxruntime" in report.read_text()


def test_choice_that_does_not_hold_is_told_and_passed_over(tmp_path) -> None:
    keep_choice(CHOICE, [])
    record = json.loads(choice_file().read_text())
    record["made_for"]["cpu"] = "another CPU"
    choice_file().write_text(json.dumps(record))
    done = roadseg("infer", SAMPLE, "--out", tmp_path / "out.mp4", "--end", "0.1")
    assert done.returncode == 0
    assert "changed since: cpu" in done.stderr


def test_resuming_takes_the_model_and_runtime_of_the_part(tmp_path) -> None:
    config = InferConfig(source=SAMPLE, out=tmp_path / "out.mp4", resume=True)
    assert as_begun(config) == config  # there is no part
    begun = replace(config, weights=CHOICE.weights, backend="openvino")
    note_settings(tmp_path / "out.mp4", begun.to_record())
    assert as_begun(config) == begun
    settings_path(tmp_path / "out.mp4").write_text("{")
    assert as_begun(config) == config


def test_cache_lies_where_the_system_wants_it(monkeypatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "roadseg"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library" / "Caches" / "roadseg"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(os.environ, "LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/roadseg")


def test_user_without_a_home_has_no_choice_and_no_cache(monkeypatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for such a user
    with pytest.raises(OutputError, match="set HOME"):
        cache_folder()
    assert kept_choice() is None
    assert kept_folder("engines") is None
