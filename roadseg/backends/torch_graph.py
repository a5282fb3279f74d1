"""A network's launches on a GPU as one CUDA graph: at batch 1 they take longer than its work."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

MOST_GRAPHS = 8
"""Graphs that are kept; each takes memory. What comes later is launched."""
WARM_UPS = 3
"""Runs before a capture, in which libraries choose their algorithms and allocate."""


class Segments(Protocol):
    """What computes as `roadseg.models.segmenter.Segmenter` does."""

    def __call__(self, frames: Tensor, *, decides: bool = True) -> tuple[Tensor | None, Tensor]:
        """Return class map, where it is wanted, and logits."""
        ...


@dataclass(frozen=True)
class Captured:
    """A graph with what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    frames: Tensor
    outputs: tuple[Tensor | None, Tensor]


class Graphs:
    """Computes as a segmenter on a GPU does, with a graph for each shape of frames and each wish.

    Args:
        segmenter: Gives class map and logits of frames.
    """

    def __init__(self, segmenter: Segments) -> None:
        self._segmenter = segmenter
        self._captured: dict[tuple[torch.Size, bool], Captured] = {}

    def __call__(self, frames: Tensor, *, decides: bool = True) -> tuple[Tensor | None, Tensor]:
        """Return class map and logits, which the next call may write over."""
        compute, key = partial(self._segmenter, decides=decides), (frames.shape, decides)
        if key not in self._captured:
            if len(self._captured) == MOST_GRAPHS:
                return compute(frames)
            self._captured[key] = capture(compute, frames)
        captured = self._captured[key]
        captured.frames.copy_(frames, non_blocking=True)
        captured.graph.replay()
        return captured.outputs


def capture(compute: Callable[[Tensor], tuple[Tensor | None, Tensor]], frames: Tensor) -> Captured:
    """Record the launches of a run; other threads may go on using the GPU."""
    given = frames.clone()
    stream = torch.cuda.Stream(frames.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(frames.device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            compute(given)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = compute(given)
    torch.cuda.current_stream(frames.device).wait_stream(stream)
    return Captured(graph, given, outputs)
