"""A network's launches on a GPU as one CUDA graph: at batch 1 they take longer than its work."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_SHAPES = 8
"""Shapes of input that are captured; each takes memory. Those that come later are launched."""
WARM_UPS = 3
"""Runs before a capture, in which libraries choose their algorithms and allocate."""

Segments = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Captured:
    """A graph with what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    frames: Tensor
    outputs: tuple[Tensor, Tensor]


class Graphs:
    """Computes as a segmenter on a GPU does, with a graph for each shape of frames.

    Args:
        segmenter: Gives class map and logits of frames.
    """

    def __init__(self, segmenter: Segments) -> None:
        self._segmenter = segmenter
        self._captured: dict[torch.Size, Captured] = {}

    def __call__(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return class map and logits, which the next call may write over."""
        if frames.shape not in self._captured:
            if len(self._captured) == MOST_SHAPES:
                return self._segmenter(frames)
            self._captured[frames.shape] = capture(self._segmenter, frames)
        captured = self._captured[frames.shape]
        captured.frames.copy_(frames, non_blocking=True)
        captured.graph.replay()
        return captured.outputs


def capture(segmenter: Segments, frames: Tensor) -> Captured:
    """Record the launches of a run; other threads may go on using the GPU."""
    given = frames.clone()
    stream = torch.cuda.Stream(frames.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(frames.device))
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            segmenter(given)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            outputs = segmenter(given)
    torch.cuda.current_stream(frames.device).wait_stream(stream)
    return Captured(graph, given, outputs)
