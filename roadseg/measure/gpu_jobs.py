"""Jobs of `roadseg.measure.jobs` for GPUs; PyTorch is imported once one is done."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from roadseg.measure.gpu_meter import GpuMeter
from roadseg.measure.record import GpuMachineResult, GpuModelResult
from roadseg.segmentation.config import CPU


def gpu_facts(**_: object) -> dict[str, Any]:
    """Job: what is known of the GPU, or why it cannot be used."""
    try:
        from roadseg.measure.gpu_cuda import facts
    except ImportError as error:
        return {"error": f"PyTorch does not load here ({error}); run: pip install torch"}
    return facts()


def time_gpu(**settings: Any) -> GpuModelResult:
    """Job: the model alone on the GPU, from the CPU's memory and back there."""
    from roadseg.measure.gpu_cuda import first
    from roadseg.measure.model_cuda import time_on_gpu

    cuda = first()
    with cuda.meter() as meter:
        return time_on_gpu(cuda, meter, **settings)


def measure_gpu(**_: object) -> GpuMachineResult:
    """Job: the peak rates of the GPU."""
    from roadseg.measure.gpu_cuda import ceilings, first

    return ceilings(first())


def count_layers(*, weights: str, inputs: str, **_: object) -> dict[str, Any]:
    """Job: the work of each layer of a model in half precision, for one frame."""
    from roadseg.measure.roofline_cuda import layers_of

    height, width = np.load(inputs).shape[1:3]
    return {"layers": layers_of(Path(weights), (height, width))}


def build_engine(
    *, weights: str, film: str, size_hw: Sequence[int], batch: int, out: str, **_: object
) -> dict[str, Any]:
    """Job: build the engine of a checkpoint for TensorRT, unless one is there that fits."""
    height, width = size_hw
    arguments = ["compile", weights, "--backend", "tensorrt", "--size", f"{width}x{height}"]
    arguments += ["--batch", str(batch), "--film", film, "--out", out]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "roadseg", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {"error": said[-1] if said else f"exit code {done.returncode}"}
    return {}


@contextmanager
def metered(device: str) -> Iterator[GpuMeter | None]:
    """Give the meter of a device; None for the CPU, and where the driver reports nothing."""
    if device == CPU:
        yield None
        return
    from roadseg.measure.gpu_cuda import first

    with first().meter() as meter:
        yield meter


def settled(device: str) -> Callable[[], None]:
    """Return what waits until a device has done all that it was given."""
    if device == CPU:
        return lambda: None
    from roadseg.measure.gpu_cuda import first

    return first().synchronize


def seen_as(device: str) -> str:
    """Return the name of a device in a process that sees no other GPU."""
    return device if device == CPU else "cuda:0"
