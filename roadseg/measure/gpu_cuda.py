"""A GPU by itself: what it is, what it computes and copies at most, and how long work on it takes.

A job of `roadseg.measure.jobs` sees one GPU, which is CUDA's first.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from roadseg.infer.device_cuda import refusal
from roadseg.measure.gpu_meter import GpuMeter, gpu_meter
from roadseg.measure.record import GpuMachineResult

SIDE = 8192
"""Rows of the matrices that are multiplied: enough work for the largest GPU."""
COPIED_BYTES = 1 << 28
"""Bytes of a copy: too many for a cache."""
TIMES = 20
"""Calls of which the median is taken."""


class Cuda:
    """What the measurements need of CUDA.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def stream(self) -> Any:
        """Return a new stream."""
        return torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Have work go to a stream while the block runs."""
        return torch.cuda.stream(stream)

    def event(self) -> Any:
        """Return a new event with a time; the thread that waits for it sleeps."""
        return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]

    def on_host(self, shape: tuple[int, ...]) -> Tensor:
        """Return page-locked bytes on the CPU, which are copied while the CPU does other things."""
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)

    def synchronize(self) -> None:
        """Wait for all that the GPU was given."""
        torch.cuda.synchronize(self.device)

    def peak_bytes(self) -> int:
        """Return the most memory that PyTorch has held there."""
        return int(torch.cuda.max_memory_reserved(self.device))

    def uuid(self) -> str:
        """Return the name by which NVML knows the GPU too."""
        return f"GPU-{torch.cuda.get_device_properties(self.device).uuid}"

    def meter(self) -> AbstractContextManager[GpuMeter | None]:
        """Give the meter of the GPU, if there is one."""
        return gpu_meter(self.uuid())


def first() -> Cuda:
    """Return the GPU that this process sees."""
    return Cuda(torch.device("cuda", 0))


def facts() -> dict[str, Any]:
    """Return what a timing on the GPU depends on, or why it cannot be used, as "error"."""
    if reason := refusal("cuda"):
        return {"error": reason}
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "memory_bytes": found.total_memory,
        "compute_capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def ceilings(cuda: Cuda, side: int = SIDE, copied_bytes: int = COPIED_BYTES) -> GpuMachineResult:
    """Measure what a GPU does at most: multiply matrices, and copy.

    Args:
        cuda: The GPU.
        side: Rows of the square matrices.
        copied_bytes: Bytes of a copy.

    Returns:
        Operations a second in half and, without TF32, in single precision; bytes a second that a
        copy within the GPU reads and writes, and that arrive from the CPU and there.
    """
    here = torch.empty(copied_bytes, dtype=torch.uint8, device=cuda.device)
    there = torch.empty_like(here)
    host = cuda.on_host((copied_bytes,))
    return {
        "half_flops_a_s": _product_flops(cuda, side, torch.half),
        "single_flops_a_s": _product_flops(cuda, side, torch.float32),
        "bytes_a_s": 2 * copied_bytes / _median_s(cuda, lambda: there.copy_(here)),
        "in_bytes_a_s": copied_bytes / _median_s(cuda, lambda: here.copy_(host, non_blocking=True)),
        "out_bytes_a_s": copied_bytes
        / _median_s(cuda, lambda: host.copy_(here, non_blocking=True)),
    }


def _product_flops(cuda: Cuda, side: int, kind: torch.dtype) -> float:
    matrix = torch.randn(side, side, device=cuda.device).to(kind)
    out = torch.empty_like(matrix)
    return float(2 * side**3 / _median_s(cuda, lambda: torch.matmul(matrix, matrix, out=out)))


def _median_s(cuda: Cuda, work: Callable[[], object]) -> float:
    """Return the seconds that a piece of work takes on the GPU, by its own events."""
    taken: list[float] = []
    for _ in range(TIMES):
        begun, done = cuda.event(), cuda.event()
        begun.record()
        work()
        done.record()
        done.synchronize()
        taken.append(begun.elapsed_time(done) / 1000)
    return max(sorted(taken)[TIMES // 2], time.get_clock_info("perf_counter").resolution)
