"""Measure a run while it goes on: frames, memory, CPU seconds and energy.

CPU seconds vary less than those of the clock. A value that the system does not report is None,
never a guess.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from roadseg.measure.gpu_meter import GpuMeter
from roadseg.measure.record import FramesResult, ModelShare, StepResult

T = TypeVar("T")

WARMUP_CALLS = 3
"""Calls of a model that count as its warm-up, after the first."""
WARMUP_FRAMES = 16
"""Frames that count as the warm-up of a pipeline, whose queues and encoder fill up."""
MODEL_THREADS = "model"
"""Prefix of the names of threads that open a model, which the runtime's threads inherit."""

PROCESS = Path("/proc/self")
POWER = Path("/sys/class/powercap")


class Marks:
    """Times at which frames were done, in seconds since the start, and CPU seconds by then.

    Args:
        spawned_s: Reading of `time.monotonic`, which all processes share, at the start.
        gpu: Meter of the GPU that works on them, if one does and it is metered.
    """

    def __init__(self, spawned_s: float, gpu: GpuMeter | None = None) -> None:
        self._spawned_s = spawned_s
        self._gpu = gpu
        self._energy = EnergyMeter()
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def add(self, *_: object) -> None:
        """Note a finished frame."""
        self.wall_s.append(round(time.monotonic() - self._spawned_s, 5))
        self.cpu_s.append(round(time.process_time(), 5))
        if self._gpu:
            self._gpu.sample()

    def result(self) -> FramesResult:
        """Return the notes, the process's memory, and the energy, that of the GPU apart."""
        frames = len(self.wall_s)
        self.add()
        return {
            "frames": frames,
            "warmup_frames": warmup_frames(frames),
            "frames_at_s": self.wall_s[:-1],
            "cpu_at_s": self.cpu_s[:-1],
            "wall_s": self.wall_s[-1],
            "cpu_s": self.cpu_s[-1],
            "peak_rss_bytes": peak_rss_bytes(),
            "joules": self._energy.joules(),
            "gpu": self._gpu.result() if self._gpu else None,
        }


def warmup_frames(frames: int) -> int:
    """Return the number of a video's frames that count as warm-up."""
    return min(WARMUP_FRAMES, frames // 3)


class StepMeter:
    """Times the steps of a loop, including CPU time of library threads."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()
        self._steps: dict[str, StepResult] = {}

    def note(self, name: str) -> None:
        """Note the end of a step."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        step = self._steps.setdefault(name, {"wall_s": [], "cpu_s": []})
        step["wall_s"].append(round(wall_s - self._wall_s, 6))
        step["cpu_s"].append(round(cpu_s - self._cpu_s, 6))
        self._wall_s, self._cpu_s = wall_s, cpu_s

    def result(self) -> dict[str, StepResult]:
        """Return each step's seconds, frame by frame."""
        return self._steps


class ModelMeter:
    """Times a model's calls, and their CPU seconds on the runtime's threads.

    Args:
        number: Number of the meter in this process.
    """

    def __init__(self, number: int = 0) -> None:
        self._threads = f"{MODEL_THREADS} {number}"
        self._frames: list[int] = []
        self._caller_cpu_s: list[float] = []
        self._pool_cpu_s: list[float | None] = []
        self.calls_s: list[float] = []
        """Seconds of each call."""

    def open(self, model: Callable[[], T]) -> T:
        """Open a model with a thread name that its threads inherit."""
        name_thread(self._threads)
        return model()

    def call(self, model: Callable[[NDArray[Any]], T], frames: NDArray[Any]) -> T:
        """Call a model and note its times."""
        since_s, cpu_s = time.perf_counter(), time.thread_time()
        result = model(frames)
        self._caller_cpu_s.append(time.thread_time() - cpu_s)
        self.calls_s.append(round(time.perf_counter() - since_s, 6))
        self._frames.append(len(frames))
        if len(self.calls_s) == WARMUP_CALLS:
            self.note_pool()
        return result

    def note_pool(self) -> None:
        """Note the CPU seconds of the runtime's threads, before they end."""
        self._pool_cpu_s.append(named_cpu_s(self._threads))

    @property
    def warm_frames(self) -> int:
        """Frames of the calls after the first few."""
        return sum(self._frames[WARMUP_CALLS:])

    @property
    def warm_cpu_s(self) -> float | None:
        """CPU seconds of these calls; None if the system does not report them."""
        if not self.warm_frames:
            return 0.0
        if len(self._pool_cpu_s) != 2 or None in self._pool_cpu_s:
            return None
        before, after = self._pool_cpu_s
        assert before is not None and after is not None
        return sum(self._caller_cpu_s[WARMUP_CALLS:]) + after - before


def model_result(meters: Sequence[ModelMeter]) -> ModelShare:
    """Return each call's seconds, and the CPU seconds a frame once all replicas are warm."""
    frames, seconds = sum(m.warm_frames for m in meters), [m.warm_cpu_s for m in meters]
    known = [s for s in seconds if s is not None]
    return {
        "model_calls_s": [call_s for meter in meters for call_s in meter.calls_s],
        "model_cpu_s_a_frame": round(sum(known) / frames, 6)
        if frames and len(known) == len(seconds)
        else None,
    }


def peak_rss_bytes() -> int | None:
    """Return the most memory that this process has held.

    Not by `getrusage`, whose value starts at that of the parent process.
    """
    return _status_bytes("VmHWM:")


def rss_bytes() -> int | None:
    """Return the memory that this process holds."""
    return _status_bytes("VmRSS:")


def reset_peak_rss() -> None:
    """Reset `peak_rss_bytes`, where the system allows it."""
    with contextlib.suppress(OSError):
        (PROCESS / "clear_refs").write_text("5")


def _status_bytes(field: str) -> int | None:
    for line in _lines(PROCESS / "status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def name_thread(name: str) -> None:
    """Set the running thread's name in the system, which threads it starts inherit."""
    if PROCESS.exists():
        (PROCESS / "task" / str(threading.get_native_id()) / "comm").write_text(name)


def named_cpu_s(name: str) -> float | None:
    """Return the CPU seconds of all living threads of a name but the running one."""
    if not PROCESS.exists():
        return None
    own = str(threading.get_native_id())
    tasks = [task for task in (PROCESS / "task").iterdir() if task.name != own]
    named = [task for task in tasks if _lines(task / "comm") == [name]]
    return sum(_nanoseconds(task) for task in named) / 1e9


def _nanoseconds(task: Path) -> int:
    lines = _lines(task / "schedstat")
    return int(lines[0].split()[0]) if lines else 0


def busy_s() -> float | None:
    """Return the busy seconds of all cores since the machine's start."""
    for line in _lines(Path("/proc/stat")):
        user, nice, system, _idle, _wait, *rest = map(int, line.split()[1:])
        return (user + nice + system + sum(rest[:3])) / os.sysconf("SC_CLK_TCK")
    return None


class EnergyMeter:
    """Reads the energy counters of processor packages (RAPL), where they are readable."""

    def __init__(self) -> None:
        # That of the platform, where there is one, counts the packages once more.
        self._counters = [
            counter
            for counter in POWER.glob("*-rapl:?/energy_uj")
            if os.access(counter, os.R_OK)
            and "".join(_lines(counter.with_name("name"))).startswith("package")
        ]
        self._before = [int(counter.read_text()) for counter in self._counters]

    def joules(self) -> float | None:
        """Return the energy since the meter was made; None where no counter is readable."""
        if not self._counters:
            return None
        used = 0
        for counter, before in zip(self._counters, self._before, strict=True):
            spent = int(counter.read_text()) - before
            if spent < 0:  # the counter wrapped
                spent += int(counter.with_name("max_energy_range_uj").read_text())
            used += spent
        return used / 1e6


def _lines(path: Path) -> list[str]:
    """Return a file's lines; none if it does not exist, as on other systems."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
