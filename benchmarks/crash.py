"""Cut runs off at their writes, and real processes at any moment; go on, and compare.

    python benchmarks/crash.py record --points 200 --kills 20 --out benchmarks/crash.json

At a write, half of its bytes get through and nothing that comes after: the files as they are then
are what a power cut would leave. A run that goes on from them must come to the same frames, times,
sound, masks and statistics.
"""

import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import typer

from roadseg.backends.runtimes import BACKENDS, Runtime
from roadseg.files import replacing
from roadseg.infer.config import InferConfig
from roadseg.infer.offline import infer
from roadseg.video.write.part import cut_torn_head, measure_part, part_path
from roadseg.video.write.sink import Sink

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from brightness_backend import BRIGHTNESS
from films import TENTH, Film, frame_times, packets, pictures

MOST_OF_A_MASK = 1e-5
"""Share of a class map that may differ: where labels are steady, the past fades and never ends."""
LEAST_PSNR_DB = 38
"""Likeness of pictures: x264's threads do not come to the same bits in every run."""
LONGEST_DELAY_S = 0.4
"""A process is killed within this time of its first write."""
EVEN, VARIABLE = tuple(range(80)), tuple(t for t in range(90) if t % 7)
app = typer.Typer(add_completion=False)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of run."""

    suffix: str
    times: tuple[int, ...] = EVEN
    """Of the film, in tenths of a second."""
    sounds: int = 0
    every: int = 1
    steady: float = 0.0

    def config(self, folder: Path) -> InferConfig:
        """Return settings to label the film in a folder, into another in it."""
        out = folder / "out"
        return InferConfig(
            source=folder / "film.mp4",
            weights=folder / "brightness.json",
            **_places(out, self.suffix),
            every=self.every,
            steady=self.steady,
            crf=10,  # without a limit of the bit rate, which would make pictures differ more
            resume=True,
        )


CASES = {
    "mp4 with sound": Case(suffix=".mp4", sounds=1),
    "mp4, every 3, steady": Case(suffix=".mp4", every=3, steady=0.6),
    "mov, variable rate": Case(suffix=".mov", times=VARIABLE, sounds=1),
    "mkv, every 3, sound": Case(suffix=".mkv", times=VARIABLE, sounds=1, every=3),
    "mkv, steady": Case(suffix=".mkv", steady=0.6),
    "webm": Case(suffix=".webm", times=VARIABLE),
}


@app.command()
def record(points: int = 200, kills: int = 20, out: Path | None = None, seed: int = 0) -> None:
    """Cut runs of every case off and write down what came of them."""
    found = {}
    for name, case in CASES.items():
        found[name] = run_case(case, points // len(CASES) + 1, -(-kills // len(CASES)), seed)
        typer.echo(f"{name}: {found[name]}", err=True)
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n")
    if any(case["differences"] for case in found.values()):
        raise typer.Exit(1)


@app.command()
def victim(case: str, folder: Path) -> None:
    """Run a case, to be killed."""
    _add_backend()
    infer(CASES[case].config(folder))


def run_case(case: Case, points: int, kills: int, seed: int = 0) -> dict[str, Any]:
    """Cut a case off at so many of its writes, and so many processes; return what came of it."""
    _add_backend()
    with tempfile.TemporaryDirectory() as name:
        config = make(case, Path(name))
        whole = moved(config, Path(name) / "whole")
        with counted() as writes:
            infer(whole)
        result: dict[str, Any] = {"writes": writes.number, "points": 0, "kills": 0}
        result |= {"worst_loss_s": 0.0, "differences": []}
        wanted = {round((n + 0.5) * writes.number / points) for n in range(points)}
        with photographed(config, wanted, Path(name)) as shots:
            infer(config, shots.note)
        for shot in shots.taken:
            _go_on(shot, whole, case, result)
        random.seed(seed)
        if kills:
            _kill(case, moved(config, config.out.parent), whole, kills, result)
    return result


def make(case: Case, folder: Path) -> InferConfig:
    """Write a case's film and model; return its settings."""
    Film(times=case.times, sounds=case.sounds).write(folder / "film.mp4")
    (folder / "brightness.json").write_text(BRIGHTNESS.to_json())
    (folder / "out").mkdir()
    (folder / "whole").mkdir()
    return case.config(folder)


def moved(config: InferConfig, folder: Path) -> InferConfig:
    """Return the same run to another folder."""
    return replace(config, **_places(folder, config.out.suffix))


def _places(folder: Path, suffix: str) -> dict[str, Path]:
    return {
        "out": folder / f"out{suffix}",
        "masks": folder / "masks",
        "stats": folder / "stats.jsonl",
    }


@dataclass
class Writes:
    """Writes so far."""

    number: int = 0


@contextlib.contextmanager
def counted() -> Iterator[Writes]:
    """Count the writes of films."""
    writes, write = Writes(), Sink.write

    def count(sink: Sink, data: bytes) -> int:
        writes.number += 1
        return write(sink, data)

    with _in_place_of_write(count):
        yield writes


@dataclass(frozen=True)
class Shot:
    """A folder as it was at a write."""

    folder: Path
    frames: int
    """Frames that had gone through the whole pipeline."""


class Shots:
    """What was photographed, and how far the run is."""

    def __init__(self) -> None:
        self.taken: list[Shot] = []
        self.frames = 0

    def note(self, frames: int, _total: int | None) -> None:
        """Be told of the frames that are done."""
        self.frames = frames


@contextlib.contextmanager
def photographed(config: InferConfig, wanted: set[int], into: Path) -> Iterator[Shots]:
    """Copy the folder of a run's output in the middle of some of its writes."""
    shots, write, number = Shots(), Sink.write, 0

    def photograph(sink: Sink, data: bytes) -> int:
        nonlocal number
        number += 1
        if number not in wanted:
            return write(sink, data)
        half = len(data) // 2
        write(sink, bytes(data[:half]))
        folder = into / f"shot{number}"
        shutil.copytree(config.out.parent, folder)
        shots.taken.append(Shot(folder, shots.frames))
        return half + write(sink, bytes(data[half:]))

    with _in_place_of_write(photograph):
        yield shots


@contextlib.contextmanager
def _in_place_of_write(function: Any) -> Iterator[None]:
    write = Sink.write
    Sink.write = function  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sink.write = write  # type: ignore[method-assign]


def _go_on(shot: Shot, whole: InferConfig, case: Case, result: dict[str, Any]) -> None:
    """Go on from a photograph, note the film's time that was lost, and what differs."""
    torn = moved(whole, shot.folder)
    cut_torn_head(part_path(torn.out))
    kept = measure_part(part_path(torn.out)).frames
    times = [*case.times, case.times[-1] + 1]
    loss_s = float((times[max(shot.frames, kept)] - times[kept]) * TENTH)
    result["worst_loss_s"] = max(result["worst_loss_s"], round(loss_s, 1))
    infer(torn)
    result["points"] += 1
    result["differences"] += [f"{shot.folder.name}: {what}" for what in differences(torn, whole)]


def _kill(
    case: Case, torn: InferConfig, whole: InferConfig, kills: int, result: dict[str, Any]
) -> None:
    """Kill processes that go on from each other; finish what the last one left.

    What is killed while its outputs take their names is not judged.
    """
    name = next(name for name, other in CASES.items() if other == case)
    _empty(torn.out.parent)
    command = [sys.executable, __file__, "victim", name, str(torn.source.parent)]
    while result["kills"] < kills and not torn.out.exists():
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603
        part = part_path(torn.out)
        before = part.stat().st_mtime_ns if part.exists() else 0
        while process.poll() is None and not (part.exists() and part.stat().st_mtime_ns > before):
            time.sleep(0.001)
        time.sleep(random.uniform(0, LONGEST_DELAY_S))  # noqa: S311
        process.kill()
        was_killed = process.wait() != 0
        if was_killed and torn.out.exists():
            _empty(torn.out.parent)  # no file system renames several files at once: begin anew
        else:
            result["kills"] += was_killed
    if not torn.out.exists():
        infer(torn)
    result["differences"] += [f"killed: {what}" for what in differences(torn, whole)]


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def differences(torn: InferConfig, whole: InferConfig) -> list[str]:
    """Return in what a run that went on differs from a whole one."""
    exact = {
        "times": frame_times(torn.out) == frame_times(whole.out),
        "sound": _sound(torn.out) == _sound(whole.out),
        "pictures": _same_pictures(torn.out, whole.out),
        "masks": _same_masks(torn, whole),
        "stats": torn.stats.read_text() == whole.stats.read_text(),
        "files": sorted(p.name for p in torn.out.parent.iterdir())
        == sorted(p.name for p in whole.out.parent.iterdir()),
    }
    return [name for name, same in exact.items() if not same]


def _same_pictures(one: Path, other: Path) -> bool:
    pairs = zip(pictures(one), pictures(other), strict=False)  # the times tell the number
    return all(cv2.PSNR(a, b) >= LEAST_PSNR_DB for a, b in pairs)


def _sound(path: Path) -> list[Any]:
    try:
        return packets(path, "audio")
    except IndexError:
        return []


def _same_masks(torn: InferConfig, whole: InferConfig) -> bool:
    names = [sorted(p.name for p in run.masks.iterdir()) for run in (torn, whole)]
    return names[0] == names[1] and all(
        (cv2.imread(str(torn.masks / name), -1) != cv2.imread(str(whole.masks / name), -1)).mean()
        <= MOST_OF_A_MASK
        for name in names[0]
    )


def _add_backend() -> None:
    BACKENDS["brightness"] = Runtime((".json",), "brightness_backend", "")


if __name__ == "__main__":
    app()
