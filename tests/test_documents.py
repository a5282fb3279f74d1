"""README and documents are true: help texts are the program's, lines run, links lead somewhere."""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, leaf_commands, patience

from roadseg.backends.runtimes import MOST_REPLICAS
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import build_pipeline
from roadseg.infer.outputs import Outputs
from roadseg.infer.steps import MOST_WORKERS
from roadseg.video.read.read_log import ReadLog
from roadseg.video.read.source import probe

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- run -->\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (language, text, bool(marked))
    for page in PAGES
    for marked, language, text in BLOCK.findall(page.read_text())
]
LINES = [
    (line.removeprefix("roadseg ").partition("  #")[0], marked)
    for language, text, marked in BLOCKS
    if language == "sh"
    for line in text.replace("\\\n", " ").splitlines()
    if line.startswith("roadseg ")
]
RUN = [line for line, marked in LINES if marked]
"""Lines of blocks under `<!-- run -->`."""


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("roadseg")), *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=patience(100),
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_closed_before_the_next_begins(page) -> None:
    fences = re.findall(r"^```(.*)$", page.read_text(), re.MULTILINE)
    assert all(fences[::2]) and not any(fences[1::2]) and not len(fences) % 2


def test_help_texts_are_those_of_the_program(tmp_path) -> None:
    shown = {}
    for language, text, _ in BLOCKS:
        if language == "text" and text.startswith("$ roadseg "):
            command, _, output = text.partition("\n")
            shown[command.removeprefix("$ ")] = output
    assert set(shown) == {f"roadseg {' '.join(names)} --help" for names in leaf_commands()}
    for command, output in shown.items():
        printed = run(shlex.split(command)[1:], tmp_path).stdout
        assert _tight(printed) == _tight(output), f"the help of {command} is out of date"


def _tight(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines() if line.strip()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, streets: Path) -> Path:
    """A folder in which the documents' lines can run: the samples, data and trained models."""
    desk = tmp_path_factory.mktemp("desk")
    shutil.copytree(ROOT / "samples", desk / "samples")
    shutil.copytree(streets, desk / "CamVid")
    (desk / "docs").mkdir()
    for name in ("runs/first/best", "runs/second/best"):
        path = desk / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for model in (ROOT / "weights").glob("roads.*"):
            shutil.copy(model, path.with_name(path.name + model.name.removeprefix("roads")))
    return desk


@pytest.mark.parametrize("line", RUN)
def test_lines_marked_run_as_written(line, desk) -> None:
    done = run(shlex.split(line), desk)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line, marked in LINES if not marked])
def test_other_lines_parse(line) -> None:
    words = tuple(shlex.split(line))
    if words[0] == "batch" and words[:2] not in leaf_commands():
        words = ("batch", "run", *words[1:])  # as the command does
    names = max(names for names in leaf_commands() if words[: len(names)] == names)
    leaf_commands()[names].make_context(names[-1], list(words[len(names) :]))


@pytest.mark.parametrize("code", [text for language, text, _ in BLOCKS if language == "python"])
def test_python_runs_as_written(code, desk) -> None:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=patience(100))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_cells_of_the_notebook_run_as_written_in_its_folder(desk) -> None:
    notebook = json.loads((ROOT / "docs" / "first_video.ipynb").read_text())
    cells = [c["source"] for c in notebook["cells"] if c["cell_type"] == "code"]
    code = "\n".join("".join(lines) for lines in cells)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=desk / "docs",  # where Jupyter starts it
        capture_output=True,
        text=True,
        timeout=patience(100),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("folder", ["weights", "samples"])
def test_tables_of_committed_files_match_the_files(folder) -> None:
    card = (ROOT / folder / "README.md").read_text()
    rows = re.findall(r"^\| (\S+) \| (\d+) \| ([0-9a-f]{64}) \|", card, re.MULTILINE)
    present = {p.name for p in (ROOT / folder).iterdir()} - {"README.md"}
    assert {name for name, _, _ in rows} == present
    for name, size, digest in rows:
        data = (ROOT / folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(size), digest), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_readme_is_short() -> None:
    assert len(PAGES[0].read_text().splitlines()) < 150


def test_how_it_works_names_the_stages_of_a_run_in_order_and_their_threads(tmp_path) -> None:
    film = ROOT / "samples" / "drive.mp4"
    config = InferConfig(source=film, out=tmp_path / "overlay.mp4", device="cpu")
    info = probe(config.source)
    pipeline = build_pipeline(config, info, ReadLog(), Outputs(config, info), drive=None)
    told = " ".join((ROOT / "docs" / "how-it-works.md").read_text().split())
    assert f": {', '.join(stage.name for stage in pipeline.stats)}. " in told
    assert f"half of the cores, at most {MOST_WORKERS}," in told
    assert f"for each core, at most {MOST_REPLICAS}," in told
