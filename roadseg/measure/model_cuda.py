"""Time a model alone on a GPU, on frames in the CPU's memory, in MLPerf's scenarios.

A call is copied in, computed and copied out on a stream each, so that several calls are under way:
while one computes, the next is copied in and the one before copied out. CUDA's own events say how
long each part took.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from roadseg.backends.runtimes import BACKENDS, Backend, open_backend
from roadseg.measure.config import Scenario
from roadseg.measure.gpu_cuda import Cuda
from roadseg.measure.gpu_meter import GpuMeter
from roadseg.measure.meters import WARMUP_CALLS, peak_rss_bytes
from roadseg.measure.record import GpuModelResult

PARTS = ("copy_in", "compute", "copy_out")
"""Parts of a call, in their order."""
IN_FLIGHT = 4
"""Calls under way in the scenario offline: one in each part, and one that is ready."""
LEAST_QUERIES = 5
"""Least number of timed queries."""
Frames = NDArray[np.uint8]


@dataclass
class Slot:
    """A call under way: its memory on both sides, and the events around its parts."""

    given: Tensor
    """(N, H, W, 3) uint8 RGB on the CPU."""
    frames: Tensor
    """The same on the GPU."""
    answer: Tensor
    """(N, H, W) uint8 on the CPU."""
    events: dict[str, tuple[Any, Any]]
    """Begin and end of each part."""
    class_map: Tensor | None = None
    """(N, H, W) uint8 where the backend left it; held until it is copied, or PyTorch would give its
    memory to others."""


class Lanes:
    """Sends calls of a model to a GPU and waits for them, the first ones first.

    Args:
        backend: Runs the model there.
        cuda: The GPU.
        shape: Frames, height and width of a call.
        depth: Most calls under way.
        on_device: Whether the backend takes frames on the GPU; what it copies itself, where it does
            not, counts as computing.
    """

    def __init__(
        self,
        backend: Backend,
        cuda: Cuda,
        shape: tuple[int, int, int],
        depth: int,
        *,
        on_device: bool = True,
    ) -> None:
        self._backend = backend
        self._on_device = on_device
        self._cuda = cuda
        self._streams = {part: cuda.stream() for part in PARTS}
        self._idle = deque(self._slot(shape) for _ in range(depth))
        self._sent: deque[Slot] = deque()

    def _slot(self, shape: tuple[int, int, int]) -> Slot:
        given = self._cuda.on_host((*shape, 3))
        events = {part: (self._cuda.event(), self._cuda.event()) for part in PARTS}
        return Slot(
            given,
            torch.empty_like(given, device=self._cuda.device),
            self._cuda.on_host(shape),
            events,
        )

    @property
    def under_way(self) -> int:
        """Calls that were sent and not waited for."""
        return len(self._sent)

    def send(self, frames: Frames) -> None:
        """Start a call on (N, H, W, 3) uint8 RGB; there must be fewer than `depth` under way."""
        slot = self._idle.popleft()
        slot.given.numpy()[:] = frames
        with self._part(slot, "copy_in"):
            if self._on_device:
                slot.frames.copy_(slot.given, non_blocking=True)
        with self._part(slot, "compute", after="copy_in"):
            slot.class_map = self._class_map(slot)
        with self._part(slot, "copy_out", after="compute"):
            slot.answer.copy_(slot.class_map, non_blocking=True)
        self._sent.append(slot)

    def _class_map(self, slot: Slot) -> Tensor:
        if self._on_device:
            there: Tensor = self._backend.run(slot.frames).outputs["class_map"]
            return there
        return torch.from_numpy(self._backend.run(slot.given.numpy()).class_map)

    @contextlib.contextmanager
    def _part(self, slot: Slot, part: str, after: str | None = None) -> Iterator[None]:
        stream, (begun, done) = self._streams[part], slot.events[part]
        if after:
            stream.wait_event(slot.events[after][1])
        with self._cuda.on(stream):
            begun.record(stream)
            yield
            done.record(stream)

    def wait(self) -> tuple[dict[str, float], Frames]:
        """Return the milliseconds of each part of the oldest call, and its class map.

        The class map is overwritten by a later call.
        """
        slot = self._sent.popleft()
        slot.events[PARTS[-1]][1].synchronize()
        slot.class_map = None
        self._idle.append(slot)
        taken = {part: begun.elapsed_time(done) for part, (begun, done) in slot.events.items()}
        return taken, slot.answer.numpy()


class Queries:
    """Queries of a scenario, one after the other.

    Args:
        lanes: Where calls go.
        scenario: What a query is, and when the next one begins.
        batches: Frames of a call each, over and over.
    """

    def __init__(self, lanes: Lanes, scenario: Scenario, batches: Sequence[Frames]) -> None:
        self._lanes = lanes
        self._batches = batches
        self._next = 0
        self.calls = max(scenario.streams // len(batches[0]), 1)
        """Calls of a query."""
        self._ahead = IN_FLIGHT - 1 if scenario.name == "offline" else 0
        self.parts: list[dict[str, float]] = []
        """Milliseconds of each part of each call."""

    def ask(self) -> None:
        """Send a query and wait for the answer; offline, for that of a query sent before."""
        for _ in range(self.calls):
            self._send()
        while self._lanes.under_way > self._ahead:
            self.parts.append(self._lanes.wait()[0])

    def _send(self) -> None:
        self._lanes.send(self._batches[self._next % len(self._batches)])
        self._next += 1


def time_on_gpu(
    cuda: Cuda,
    meter: GpuMeter | None,
    *,
    weights: str,
    backend: str,
    cuda_graph: bool | None,
    inputs: str,
    batch: int,
    scenario: str,
    seconds: float,
    **_: object,
) -> GpuModelResult:
    """Open a model and time its queries on real frames, the first ones apart.

    Args:
        cuda: The GPU.
        meter: Its meter, if there is one.
        weights: Model file.
        backend: Runtime that takes frames on a GPU.
        cuda_graph: Start a call as one CUDA graph; None leaves it to the runtime.
        inputs: File of frames, (N, H, W, 3) RGB.
        batch: Frames a call.
        scenario: How queries follow each other.
        seconds: How long to measure, once all is warm.
    """
    frames = np.load(inputs)
    batches = [frames.take(range(i, i + batch), axis=0, mode="wrap") for i in range(len(frames))]
    since_s = time.perf_counter()
    with contextlib.closing(open_backend(Path(weights), backend, cuda_graph=cuda_graph)) as model:
        open_s = time.perf_counter() - since_s
        parsed = Scenario.parse(scenario)
        depth = max(parsed.streams // batch, IN_FLIGHT)
        shape = (batch, *frames.shape[1:3])
        lanes = Lanes(model, cuda, shape, depth, on_device=BACKENDS[backend].on_device)
        queries = Queries(lanes, parsed, batches)
        first_s = [_seconds_of(queries) for _ in range(WARMUP_CALLS + 1)]
        if meter:
            meter.restart()
        warm, cpu_s = len(queries.parts), time.process_time()
        queries_s = _timed(queries, seconds, meter)
        cuda.synchronize()  # offline, some calls are still under way
    return {
        "open_s": round(open_s, 5),
        "first_call_s": first_s[0],
        "warmup_calls_s": first_s[1:],
        "calls_s": queries_s,
        "batch": batch * queries.calls,
        "calls_a_query": queries.calls,
        "parts_ms": {p: [round(taken[p], 4) for taken in queries.parts[warm:]] for p in PARTS},
        "cpu_s": round(time.process_time() - cpu_s, 5),
        "peak_rss_bytes": peak_rss_bytes(),
        "peak_gpu_bytes": cuda.peak_bytes(),
        "gpu": meter.result() if meter else None,
        "joules": None,
    }


def _timed(queries: Queries, seconds: float, meter: GpuMeter | None) -> list[float]:
    """Return the seconds of each query, of as many as fit into a time, and at least a few."""
    until_s = time.perf_counter() + seconds
    queries_s: list[float] = []
    while len(queries_s) < LEAST_QUERIES or time.perf_counter() < until_s:
        queries_s.append(_seconds_of(queries))
        if meter:
            meter.sample()
    return queries_s


def _seconds_of(queries: Queries) -> float:
    since_s = time.perf_counter()
    queries.ask()
    return round(time.perf_counter() - since_s, 6)
