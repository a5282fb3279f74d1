"""What is found is what is there: a runtime that is broken or missing is named, with its remedy."""

import json
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec

import pytest
from conftest import patience

from roadseg.backends.runtimes import BACKENDS, Runtime
from roadseg.backends.weights import SHIPPED_MODELS
from roadseg.cli.examine import Finding, examine


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {f"{found.area} {found.name}": found for found in examine()}


def test_what_tests_use_works(findings) -> None:
    for name in ("runtime onnxruntime", "decode h264", "encode libx264"):
        assert findings[name].works, findings[name]
    assert metadata.version("onnxruntime") in findings["runtime onnxruntime"].detail


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("runtime torch", "torch"),
        ("runtime openvino", "openvino"),
        ("compile for openvino", "nncf"),
    ],
)
def test_extra_that_is_installed_works_and_one_that_is_not_does_not(
    findings, name, package
) -> None:
    assert findings[name].works == (find_spec(package) is not None), findings[name]


def test_included_models_are_listed_with_their_terms(findings) -> None:
    for name, trained_on in SHIPPED_MODELS.items():
        found = findings[f"included {name}"]
        assert found.works and "FP32" in found.detail
        assert trained_on in found.detail and "research use" in found.detail


def test_nothing_fails_without_a_reason_and_a_remedy(findings) -> None:
    for found in findings.values():
        assert found.detail
        assert found.works or found.remedy, found


def test_missing_runtime_comes_with_its_command(monkeypatch) -> None:
    entry = Runtime((".x",), "roadseg.backends.absent_backend", "pip install absent")
    monkeypatch.setitem(BACKENDS, "absent", entry)
    found = {f.name: f for f in examine()}["absent"]
    assert not found.works
    assert "absent_backend" in found.detail
    assert found.remedy == "pip install absent"


def test_package_that_breaks_on_import_is_a_finding(monkeypatch, tmp_path) -> None:
    (tmp_path / "broken_runtime.py").write_text("raise RuntimeError('Found no driver\\nat all')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS, "broken", Runtime((".x",), "broken_runtime", "mend it"))
    found = {f.name: f for f in examine()}["broken"]
    assert (found.works, found.detail, found.remedy) == (False, "Found no driver", "mend it")


@pytest.mark.parametrize("columns", [80, 120])
def test_table_fits_the_terminal(columns) -> None:
    command = [sys.executable, "-m", "roadseg", "doctor"]
    environment = {"COLUMNS": str(columns), "PATH": "", "TERM": "dumb"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=patience(60)
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= columns
    assert "onnxruntime" in done.stdout
    assert "roadseg infer works here" in done.stdout


def test_json_lists_every_finding(findings) -> None:
    command = [sys.executable, "-m", "roadseg", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience(60))
    assert {f"{f['area']} {f['name']}" for f in json.loads(done.stdout)} == set(findings)
