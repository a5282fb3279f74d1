"""Time `roadseg infer` of two revisions against each other, in turns.

    python benchmarks/revisions.py run OLD/bin/roadseg NEW/bin/roadseg benchmarks/revisions.json
    python benchmarks/revisions.py run OLD/bin/roadseg NEW/bin/roadseg \
        benchmarks/revisions-one-model.json --weights OLD.onnx
    python benchmarks/revisions.py table

Both programs label the sample as it is and enlarged to 1080p and 4K, with their own defaults, or
with one model, one after the other and in the other order in the next round, each in its own
process. Both need `openvino` installed. The figures are CPU milliseconds a frame of the whole
process, its start taken off (what a run of one frame takes), and the most memory it held. Times of
a process change with what else the machine does; ratios of neighbours hardly do.
"""

import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import typer
from full_hd import write_enlarged
from marks import write

from roadseg.files import replacing
from roadseg.measure.machine_record import machine_record
from roadseg.video.read.source import probe

FOLDER = Path(__file__).absolute().parent
SAMPLE = FOLDER.parent / "samples" / "drive.mp4"
README = FOLDER / "README.md"
RECORDS = ("revisions", "revisions-one-model")
"""Records whose tables the README shows, between marks of their names."""
app = typer.Typer(add_completion=False)


class Case(NamedTuple):
    """What both programs are timed at.

    Attributes:
        name: as the table calls it.
        height: of the film's pictures; None for the sample as it is.
        frames: how many of them are labelled.
        options: of `roadseg infer`, in words that both programs know.
    """

    name: str
    height: int | None
    frames: int
    options: tuple[str, ...]


STATS = ("--no-film", "--stats", "stats.jsonl")
WHOLE = 221
"""Frames of the sample. Of a shorter film, what is done once, as for the first second, counts."""
CASES = (
    Case("960x540", None, WHOLE, ()),
    Case("1080p", 1080, WHOLE, ()),
    Case("1080p, OpenVINO", 1080, WHOLE, ("--backend", "openvino")),
    Case("1080p, --every 4", 1080, WHOLE, ("--every", "4")),
    Case("1080p, --stats --no-film", 1080, WHOLE, STATS),
    Case("1080p, --stats --no-film --every 4", 1080, WHOLE, (*STATS, "--every", "4")),
    Case("4K", 2160, 48, ()),
)
BACKEND = ("--backend", "onnxruntime")  # unless a case says otherwise
CAMERA = {"preset": "veryfast", "crf": "18"}
"""How x264 writes what a camera would have."""


class Spent(NamedTuple):
    """What a process took: CPU seconds of all its threads, and the most megabytes it held."""

    cpu_s: float
    megabytes: float


@app.command()
def run(old: Path, new: Path, record: Path, weights: Path | None = None, rounds: int = 5) -> None:
    """Run both programs at all cases, by their own models or by one, and write what they took."""
    programs, record = {"old": old.absolute(), "new": new.absolute()}, record.absolute()
    model = ("--weights", str(weights.absolute())) if weights else ()
    cases = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for case in CASES:
            film = Path(f"{case.height}.mp4") if case.height else SAMPLE
            if case.height and not film.exists():
                rows, columns = probe(SAMPLE).size_hw
                size_hw = case.height, case.height * columns // rows
                _apart(write_enlarged, film, SAMPLE, size_hw, case.frames, CAMERA)
            case = case._replace(options=(*case.options, *model))
            cases[case.name] = compared(programs, case, film, rounds)
            typer.echo(f"{case.name}: {_gain(cases[case.name])}", err=True)
    with replacing(record) as temporary:
        text = json.dumps({"machine": machine_record(), "cases": cases}, indent=2)
        temporary.write_text(f"{text}\n")


def _apart(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a process of its own.

    Linux counts what a process held before it became another program as held by that one too.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(function, *arguments).result()


def compared(programs: dict[str, Path], case: Case, film: Path, rounds: int) -> dict[str, Any]:
    """Return CPU milliseconds a frame by round, and the most memory, of each program."""
    ms: dict[str, list[float]] = {name: [] for name in programs}
    megabytes = dict.fromkeys(programs, 0.0)
    for number in range(rounds):
        for name in programs if number % 2 else reversed(programs):
            words = [str(programs[name]), "infer", *BACKEND]
            start = _spent([*words, "--end", "0.03"], case, film)
            whole = _spent(words, case, film)
            ms[name].append(1000 * (whole.cpu_s - start.cpu_s) / (case.frames - 1))
            megabytes[name] = max(megabytes[name], whole.megabytes)
    return {"cpu_ms": ms, "megabytes": megabytes}


def _spent(words: Sequence[str], case: Case, film: Path) -> Spent:
    """Label a film in a process of its own, which writes into the current folder."""
    options = [*case.options, *([] if "--no-film" in case.options else ["--out", "out.mp4"])]
    process = subprocess.Popen(  # noqa: S603
        [*words, str(film), *options, "--overwrite", "--quiet"],
        stderr=subprocess.PIPE,
        # With it, both programs would be the one that lies there.
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        assert process.stderr is not None
        raise RuntimeError(process.stderr.read().decode())
    return Spent(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


@app.command()
def table() -> None:
    """Write the records as tables into the README."""
    for mark in RECORDS:
        write(README, mark, markdown(mark))


def markdown(mark: str) -> str:
    """Return the cases of a record of `RECORDS` as a table in Markdown."""
    cases = json.loads((FOLDER / f"{mark}.json").read_text())["cases"]
    lines = [
        "| film | CPU ms a frame, old and new | gain | most memory, MB |",
        "| --- | --- | --- | --- |",
    ]
    for name, case in cases.items():
        old, new = (statistics.median(case["cpu_ms"][run]) for run in ("old", "new"))
        megabytes = " and ".join(f"{case['megabytes'][run]:.0f}" for run in ("old", "new"))
        lines.append(f"| {name} | {old:.1f} and {new:.1f} | {_gain(case)} | {megabytes} |")
    return "\n".join([*lines, ""])


def _gain(case: dict[str, Any]) -> str:
    """Return the median of the rounds' ratios, and the least and greatest."""
    ratios = [o / n for o, n in zip(case["cpu_ms"]["old"], case["cpu_ms"]["new"], strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    app()
