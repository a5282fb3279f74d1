"""Cut runs off at their writes, and real processes at any moment; go on, and compare.

    python benchmarks/crash.py record --points 200 --kills 20 --out benchmarks/crash.json

At a write, half of its bytes get through and nothing that comes after: the files as they are then
are what a power cut would leave. A run that goes on from them must come to the same frames, times,
sound, masks and statistics.
"""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import typer

from roadseg.backends.runtimes import BACKENDS, Runtime
from roadseg.errors import OutputError, VideoError
from roadseg.files import Lock, replacing
from roadseg.infer import outputs
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
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
"""Python's audit events at which names change."""
OLD = {"out.mp4": b"film", "stats.jsonl": b"stats", "masks/000003.png": b"mask"}
"""What a run has to replace."""
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


SHORT = "mp4, short"
CASES = {
    "mp4 with sound": Case(suffix=".mp4", sounds=1),
    "mp4, every 3, steady": Case(suffix=".mp4", every=3, steady=0.6),
    "mov, variable rate": Case(suffix=".mov", times=VARIABLE, sounds=1),
    "mkv, every 3, sound": Case(suffix=".mkv", times=VARIABLE, sounds=1, every=3),
    "mkv, steady": Case(suffix=".mkv", steady=0.6),
    "webm": Case(suffix=".webm", times=VARIABLE),
    SHORT: Case(suffix=".mp4", times=EVEN[:15]),
}


@app.command()
def record(points: int = 200, kills: int = 20, out: Path | None = None, seed: int = 0) -> None:
    """Cut runs of every case off and write down what came of them."""
    found = {}
    for name, case in CASES.items():
        found[name] = run_case(case, points // len(CASES) + 1, -(-kills // len(CASES)), seed)
        typer.echo(f"{name}: {found[name]}", err=True)
    for name, overwrite in {"names": False, "names, replacing": True}.items():
        found[name] = run_names(overwrite=overwrite)
        typer.echo(f"{name}: {found[name]}", err=True)
    if out:
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n")
    if any(case["differences"] for case in found.values()):
        raise typer.Exit(1)


@app.command()
def victim(case: str, folder: Path, change: int | None = None, *, overwrite: bool = False) -> None:
    """Run a case, to be killed; by itself at a change of names from its publication on."""
    _add_backend()
    if change is not None:
        _die_at(change)
    infer(replace(CASES[case].config(folder), overwrite=overwrite))


def _die_at(change: int) -> None:
    numbers, publish, note = count(), outputs.publish, Lock.note

    def tick() -> None:
        if next(numbers) == change:
            os.kill(os.getpid(), signal.SIGKILL)

    def count_changes(*args: Any) -> None:
        sys.addaudithook(lambda event, _: tick() if event in CHANGES else None)
        publish(*args)

    def tear(lock: Lock, line: bytes) -> None:
        tick()
        with lock._path.open("ab") as file:
            file.write(line[: len(line) // 2])
        tick()
        lock._path.write_bytes(lock._path.read_bytes()[: -(len(line) // 2)])
        note(lock, line)

    outputs.publish, Lock.note = count_changes, tear


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
        wanted = {int((n + 0.5) * writes.number / points) + 1 for n in range(points)}
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
    """Kill processes that go on from each other; finish what the last one left."""
    name = next(name for name, other in CASES.items() if other == case)
    _empty(torn.out.parent)
    while result["kills"] < kills:
        process = _victim(name, torn)
        part = part_path(torn.out)
        before = part.stat().st_mtime_ns if part.exists() else 0
        while process.poll() is None and not (part.exists() and part.stat().st_mtime_ns > before):
            time.sleep(0.001)
        time.sleep(random.uniform(0, LONGEST_DELAY_S))  # noqa: S311
        process.kill()
        if process.wait() == 0:
            break
        result["kills"] += 1
    _finish(torn)
    result["differences"] += [f"killed: {what}" for what in differences(torn, whole)]


def _victim(name: str, torn: InferConfig, *args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "victim", name, str(torn.source.parent), *args]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603


def _finish(torn: InferConfig) -> None:
    try:
        infer(torn)
    except (OutputError, VideoError) as error:
        if torn.overwrite or not torn.out.exists():  # it was complete
            raise
        assert "exists" in str(error) or "is complete" in str(error)


def run_names(step: int = 1, *, overwrite: bool) -> dict[str, Any]:
    """Kill a process at each so many-th change of names from its publication on.

    Returns:
        What came of it.
    """
    _add_backend()
    result: dict[str, Any] = {"kills": 0, "differences": []}
    flags = ["--overwrite"] if overwrite else []
    with tempfile.TemporaryDirectory() as name:
        torn = replace(make(CASES[SHORT], Path(name)), overwrite=overwrite)
        whole = moved(torn, Path(name) / "whole")
        infer(whole)
        for change in count(0, step):
            _empty(torn.out.parent)
            for old, data in OLD.items() if overwrite else ():
                (torn.out.parent / old).parent.mkdir(exist_ok=True)
                (torn.out.parent / old).write_bytes(data)
            if _victim(SHORT, torn, "--change", str(change), *flags).wait() == 0:
                break
            result["kills"] += 1
            found = [f"{old} was lost" for old in _lost(torn)] if overwrite else []
            _finish(torn)
            found += differences(torn, whole)
            result["differences"] += [f"change {change}: {what}" for what in found]
    return result


def _lost(torn: InferConfig) -> list[str]:
    """Return which old files are no more, though not all new ones have their names."""
    there = {path.read_bytes() for path in torn.out.parent.rglob("*") if path.is_file()}
    lost = [old for old, data in OLD.items() if data not in there]
    named = [torn.out.parent / old for old in OLD]
    is_done = all(path.is_file() and path.read_bytes() not in OLD.values() for path in named)
    return [] if is_done else lost


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
