"""The README is true: help texts are the program's, lines run, tables match the files."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, leaf_commands, patience

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
LINES = [
    line.removeprefix("roadseg ")
    for language, text in BLOCKS
    if language == "sh"
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith("roadseg ")
]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("roadseg")), *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=patience(100),
    )


def test_help_texts_are_those_of_the_program(tmp_path) -> None:
    shown = {}
    for language, text in BLOCKS:
        if language == "text" and text.startswith("$ roadseg "):
            command, _, output = text.partition("\n")
            shown[command.removeprefix("$ ")] = output
    assert set(shown) == {f"roadseg {' '.join(names)} --help" for names in leaf_commands()}
    for command, output in shown.items():
        printed = run(shlex.split(command)[1:], tmp_path).stdout
        assert _tight(printed) == _tight(output), f"the README's help of {command} is out of date"


def _tight(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines() if line.strip()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's lines can run: the samples, and data where it says."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "samples", desk / "samples")
    return desk


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("infer ")])
def test_lines_that_label_run_as_written(line, desk) -> None:
    done = run(shlex.split(line), desk)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [text for language, text in BLOCKS if language == "python"])
def test_python_runs_as_written(code, desk) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=patience(100))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("evaluate ")])
def test_lines_that_measure_run_as_written(line, desk, streets) -> None:
    if not (desk / "CamVid").exists():
        shutil.copytree(streets, desk / "CamVid")
    for name in re.findall(r"--(?:weights|against) (\S+)", line):
        path = desk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "weights" / f"unet-lite{path.suffix}", path)
    done = run(shlex.split(line), desk)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(("infer", "eval"))])
def test_lines_that_take_hours_parse(line) -> None:
    words = tuple(shlex.split(line))
    (names,) = (names for names in leaf_commands() if words[: len(names)] == names)
    leaf_commands()[names].make_context(names[-1], list(words[len(names) :]))


@pytest.mark.parametrize("folder", ["weights", "samples"])
def test_tables_of_committed_files_match_the_files(folder) -> None:
    card = (ROOT / folder / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \| (\d+) \| ([0-9a-f]{64}) \|", card, re.MULTILINE)
    present = {p.name for p in (ROOT / folder).iterdir()} - {"README.md"}
    assert {name for name, _, _ in rows} == present
    for name, size, digest in rows:
        data = (ROOT / folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(size), digest), name


def test_links_to_files_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
