"""Count what a run takes while it goes on: when its frames were done, and what its model costs."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from roadseg.measure import EnergyMeter, name_thread, named_cpu_s, peak_rss_bytes

T = TypeVar("T")

WARMUP_CALLS = 3
"""Calls of a model, after the first, before it is taken to be at its usual speed."""
WARMUP_FRAMES = 16
"""Frames of a film before the pipeline's queues and the encoder are taken to be full."""
MODEL_THREADS = "model"
"""Begins the name of a thread that opens a model, and so of those that its runtime starts."""


class Marks:
    """When frames were done: seconds since this process was started, and its CPU seconds by then.

    Args:
        spawned_s: Reading of `time.monotonic`, which all processes share, at the start.
    """

    def __init__(self, spawned_s: float) -> None:
        self._spawned_s = spawned_s
        self._energy = EnergyMeter()
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    def add(self, *_: object) -> None:
        """Note that a frame is done."""
        self.wall_s.append(round(time.monotonic() - self._spawned_s, 5))
        self.cpu_s.append(round(time.process_time(), 5))

    def result(self) -> dict[str, Any]:
        """Return all that was noted, and how the process stands now."""
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
        }


def warmup_frames(frames: int) -> int:
    """Return how many of a film's frames are not counted as steady."""
    return min(WARMUP_FRAMES, frames // 3)


class StepMeter:
    """Adds up what the steps of a loop take, the work of a library's threads meanwhile included."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()
        self._steps: dict[str, dict[str, list[float]]] = {}

    def note(self, name: str) -> None:
        """Note that a step has ended, and the next begins."""
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        step = self._steps.setdefault(name, {"wall_s": [], "cpu_s": []})
        step["wall_s"].append(round(wall_s - self._wall_s, 6))
        step["cpu_s"].append(round(cpu_s - self._cpu_s, 6))
        self._wall_s, self._cpu_s = wall_s, cpu_s

    def result(self) -> dict[str, Any]:
        """Return each step's seconds, frame by frame."""
        return {"steps": self._steps}


class ModelMeter:
    """Times a model's calls, and counts the CPU seconds they take on its runtime's own threads.

    Args:
        number: Tells it from others in this process.
    """

    def __init__(self, number: int = 0) -> None:
        self._threads = f"{MODEL_THREADS} {number}"
        self._frames: list[int] = []
        self._caller_cpu_s: list[float] = []
        self._pool_cpu_s: list[float | None] = []
        self.calls_s: list[float] = []
        """Seconds of each call."""

    def open(self, model: Callable[[], T]) -> T:
        """Open a model so that the threads it starts are known again."""
        name_thread(self._threads)
        return model()

    def call(self, model: Callable[[NDArray[Any]], T], frames: NDArray[Any]) -> T:
        """Call a model and note what it took."""
        since_s, cpu_s = time.perf_counter(), time.thread_time()
        answer = model(frames)
        self._caller_cpu_s.append(time.thread_time() - cpu_s)
        self.calls_s.append(round(time.perf_counter() - since_s, 6))
        self._frames.append(len(frames))
        if len(self.calls_s) == WARMUP_CALLS:
            self.note_pool()
        return answer

    def note_pool(self) -> None:
        """Note the CPU seconds of the runtime's threads; to be done before they end."""
        self._pool_cpu_s.append(named_cpu_s(self._threads))

    @property
    def warm_frames(self) -> int:
        """Frames of the calls after the first few."""
        return sum(self._frames[WARMUP_CALLS:])

    @property
    def warm_cpu_s(self) -> float | None:
        """CPU seconds of these calls, as far as the system tells."""
        if not self.warm_frames:
            return 0.0
        if len(self._pool_cpu_s) != 2 or None in self._pool_cpu_s:
            return None
        before, after = self._pool_cpu_s
        assert before is not None and after is not None
        return sum(self._caller_cpu_s[WARMUP_CALLS:]) + after - before


def model_result(meters: Sequence[ModelMeter]) -> dict[str, Any]:
    """Return each call's seconds, and the CPU seconds a frame once all copies are warm."""
    frames, seconds = sum(m.warm_frames for m in meters), [m.warm_cpu_s for m in meters]
    known = [s for s in seconds if s is not None]
    return {
        "model_calls_s": [call_s for meter in meters for call_s in meter.calls_s],
        "model_cpu_s_a_frame": round(sum(known) / frames, 6)
        if frames and len(known) == len(seconds)
        else None,
    }
