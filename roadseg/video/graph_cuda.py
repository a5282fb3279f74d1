"""Functions of tensors whose launches on a GPU are one CUDA graph.

A launch takes its thread some microseconds, and PyTorch lets go of Python's lock around each. Where
several threads launch thousands a second, they wait for the lock longer than the GPU works. A graph
is one launch, however much is in it.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

MOST_GRAPHS = 8
"""Graphs of a function that are kept; each takes memory. What comes later is launched."""
WARM_UPS = 3
"""Runs before a graph is recorded, in which libraries choose their algorithms and allocate."""

Tensors = tuple[Tensor, ...]
Result = TypeVar("Result", bound=Tensor | Tensors)


class Graphed(Generic[Result]):
    """A function of tensors that is recorded on a GPU, once for each kind of arguments.

    Elsewhere it is called. Any thread may use it, on the default stream.

    Args:
        function: Takes tensors, then constants, and settings by name. All its work is on their
            device, and it waits for nothing there.
    """

    def __init__(self, function: Callable[..., Result]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._recorded: dict[Hashable, _Recorded[Result]] = {}

    def __call__(self, *tensors: Tensor, constants: Tensors = (), **settings: Hashable) -> Result:
        """Return what the function does, as the caller's own.

        Args:
            tensors: What is copied into the graph for each call.
            constants: Tensors that stay what they are, which the graph reads where they lie.
            settings: Settings of the function.
        """

        def call(given: Tensors) -> Result:
            return self._function(*given, *constants, **settings)

        if not tensors[0].is_cuda:
            return call(tensors)
        kinds = tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in tensors)
        key = (kinds, tuple(map(id, constants)), tuple(settings.items()))
        with self._lock:
            if key not in self._recorded:
                if len(self._recorded) == MOST_GRAPHS:
                    return call(tensors)
                self._recorded[key] = _record(call, tensors)
            return self._recorded[key].run(tensors)


@dataclass(frozen=True)
class _Recorded(Generic[Result]):
    """A graph with what it reads and writes."""

    graph: torch.cuda.CUDAGraph
    call: Callable[[Tensors], Result]
    """What was recorded; keeps the constants."""
    tensors: Tensors
    result: Result

    def run(self, tensors: Tensors) -> Result:
        """Return the result for tensors of the kind recorded."""
        for own, given in zip(self.tensors, tensors, strict=True):
            own.copy_(given, non_blocking=True)
        self.graph.replay()
        if isinstance(self.result, Tensor):
            return cast("Result", self.result.clone())
        return cast("Result", tuple(tensor.clone() for tensor in self.result))


_recording = threading.Lock()


def _record(call: Callable[[Tensors], Result], tensors: Tensors) -> _Recorded[Result]:
    """Record the launches of a call; other threads may go on using the GPU."""
    own = tuple(tensor.clone() for tensor in tensors)
    device = own[0].device
    with _recording:
        stream = _stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                call(own)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = call(own)
        torch.cuda.current_stream(device).wait_stream(stream)
    return _Recorded(graph, call, own, result)


@lru_cache(maxsize=16)  # one for each GPU
def _stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which graphs are recorded: cuBLAS has a workspace for each."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
