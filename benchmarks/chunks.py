"""Measure what labelling in chunks costs, with and without a cluster, beside one run.

    python benchmarks/chunks.py run benchmarks/chunks.json
    python benchmarks/chunks.py table benchmarks/chunks.json

The sample, several times over, is labelled in turns by `roadseg infer`, by `roadseg batch --chunk
30`, and by the same with `--cluster local`, all on the same two cores. Figures are CPU seconds of
all processes that a command starts, Ray's daemons and the end of them included; a control group
counts them, which only root can make. Each command also labels a single frame, which shows what is
spent once however long the film is.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import typer
from gpu_check import looped
from marks import write

from roadseg.files import replacing
from roadseg.measure.machine_record import machine_record
from roadseg.video.read.source import probe

ROOT = Path(__file__).absolute().parent.parent
SAMPLE = ROOT / "samples" / "drive.mp4"
PAGE = ROOT / "docs" / "scale.md"
CORES = 2
BATCH = "batch films --out out --chunk 30"
ONE_RUN = "one run"
WAYS = {
    ONE_RUN: "infer films/film.mp4 --out film.overlay.mp4",
    "chunks": BATCH,
    "chunks, --cluster local": f"{BATCH} --cluster local",
}
ONE_FRAME = " --end 0.03"
LENGTHS_MIN = (3, 10, 60, 600)
"""Minutes of film that the table has a column for."""
PATIENCE_S = 60.0
"""Time for daemons to end."""
app = typer.Typer(add_completion=False)


class Spent(NamedTuple):
    """What a command took.

    Attributes:
        cpu_s: CPU seconds of all its processes.
        join_s: from the last chunk's end to the film's; None without chunks.
    """

    cpu_s: float
    join_s: float | None


@app.command()
def run(record: Path, minutes: float = 3.0, rounds: int = 3) -> None:
    """Label a film in each way and write what that took."""
    taken: dict[str, list[dict[str, float | None]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        film = Path(folder, "film.mp4")
        looped(SAMPLE, round(60 * minutes / length_s(SAMPLE)), film)
        written = {"machine": machine_record(), "film_s": length_s(film), "ways": taken}
        for number in range(rounds):
            for way, command in list(WAYS.items())[:: -1 if number % 2 else 1]:
                start, whole = spent(command + ONE_FRAME, film), spent(command, film)
                figures = {"start_cpu_s": start.cpu_s, "cpu_s": whole.cpu_s, "join_s": whole.join_s}
                taken[way].append(figures)
                typer.echo(f"{way}: {figures}", err=True)
            with replacing(record) as temporary:
                temporary.write_text(f"{json.dumps(written, indent=2)}\n")


def length_s(film: Path) -> float:
    """Return the seconds from the first picture of a film to its end."""
    info = probe(film)
    assert info.end_s is not None
    return info.end_s - info.start_s


def spent(command: str, film: Path) -> Spent:
    """Label a film on `CORES` cores in a folder of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name, control_group() as group:
        folder = Path(name)
        (folder / "films").mkdir()
        os.link(film, folder / "films" / film.name)

        def confine() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])

        words = ["roadseg", *command.split(), "--quiet"]
        done = subprocess.run(words, cwd=folder, preexec_fn=confine, stderr=subprocess.PIPE)  # noqa: S603
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        wait_for_end(group)
        counted = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        return Spent(int(counted["usage_usec"]) / 1e6, join_s(folder))


@contextmanager
def control_group() -> Iterator[Path]:
    """Make a control group, which counts the CPU time of all that is ever in it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    roots = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    if not roots:
        raise SystemExit("no cgroup2 is mounted, and it is what counts the CPU time of daemons")
    group = roots[0] / f"roadseg-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        wait_for_end(group)
        group.rmdir()


def wait_for_end(group: Path) -> None:
    """Wait until no process is in a control group."""
    deadline_s = time.monotonic() + PATIENCE_S
    while (group / "cgroup.procs").read_text():
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{group} still has processes")
        time.sleep(0.1)


def join_s(folder: Path) -> float | None:
    """Return the time from a film's last chunk to its end, by the manifest of the batch."""
    manifests = list(folder.glob("out/manifest-*.jsonl"))
    if not manifests:
        return None
    lines = [json.loads(line) for line in manifests[0].read_text().splitlines()]
    done = [line for line in lines if line.get("state") == "done"]
    *_, last, whole = (datetime.fromisoformat(line["at"]) for line in done)
    return (whole - last).total_seconds()


@app.command()
def table(record: Path) -> None:
    """Write a record as a table into the documents."""
    write(PAGE, "chunks", markdown(json.loads(record.read_text())))


def markdown(record: Mapping[str, Any]) -> str:
    """Return what each way of a record takes, and how much more than one run, in Markdown."""
    ways, film_s = record["ways"], record["film_s"]
    lengths = " | ".join(f"{minutes} min" for minutes in LENGTHS_MIN)
    lines = [
        f"| way | CPU s to start and end | for a minute | join, s | over one run: {lengths} |",
        "| --- " * (4 + len(LENGTHS_MIN)) + "|",
    ]
    base = Taken.of(ways[ONE_RUN], film_s)
    for way, rounds in ways.items():
        taken = Taken.of(rounds, film_s)
        over = [taken.cpu_s(60 * m) / base.cpu_s(60 * m) - 1 for m in LENGTHS_MIN]
        joins = [r["join_s"] for r in rounds if r["join_s"] is not None]
        cells = [
            way,
            f"{taken.start_s:.1f}",
            f"{60 * taken.pace:.1f}",
            f"{statistics.median(joins):.2f}" if joins else "",
            *("" if way == ONE_RUN else f"{100 * share:.1f} %" for share in over),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


class Taken(NamedTuple):
    """The CPU time of a way.

    Attributes:
        start_s: CPU seconds spent once, median of the rounds.
        pace: CPU seconds for a second of film beyond that, median too.
    """

    start_s: float
    pace: float

    @classmethod
    def of(cls, rounds: Sequence[Mapping[str, float]], film_s: float) -> "Taken":
        """Return what rounds over a film say."""
        paces = [(r["cpu_s"] - r["start_cpu_s"]) / film_s for r in rounds]
        return cls(statistics.median(r["start_cpu_s"] for r in rounds), statistics.median(paces))

    def cpu_s(self, film_s: float) -> float:
        """Return the CPU seconds for a film."""
        return self.start_s + self.pace * film_s


if __name__ == "__main__":
    app()
