"""Upper bounds on a network's speed: its work against the machine's peak rates.

The roofline of Williams, Waterman and Patterson (2009): a machine computes at most so many
operations and moves at most so many bytes a second, and a network needs so many of either. ONNX
Runtime's own profile has both, so nothing else has to read the graph.
"""

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from roadseg.backends.onnxruntime_silent import ort
from roadseg.errors import ModelFileError

CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "QLinearConv": 3}
"""Convolutions, with the index of the weights among their inputs. All other work in a segmentation
network is a few percent."""
TRANSPOSED = "ConvTranspose"
"""Transposed convolution."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work of one call of a network."""

    flops: int
    """Operations in convolutions; a multiplication and its addition are two."""
    moved_bytes: int
    """Bytes read and written by ONNX Runtime's fused operators, weights included."""
    kinds_s: dict[str, float]
    """Seconds in each kind of operator, in one call."""

    def limit_s(self, machine_flops: float, machine_bytes: float) -> float:
        """Return the least time of a call, given the machine's peak rates a second."""
        return max(self.flops / machine_flops, self.moved_bytes / machine_bytes)


def work_of(model: Path, frames_shape: tuple[int, int, int, int]) -> Work:
    """Count the work of one call on frames of a shape (N, H, W, 3).

    Raises:
        ModelFileError: The file is no ONNX model.
    """
    levels = ort.GraphOptimizationLevel
    as_written = _profile(model, frames_shape, levels.ORT_DISABLE_ALL)
    as_run = _profile(model, frames_shape, levels.ORT_ENABLE_ALL)
    kinds_s: dict[str, float] = {}
    for node in as_run:
        name = node["args"]["op_name"]
        kinds_s[name] = kinds_s.get(name, 0.0) + node["dur"] / 1e6
    sizes = ("activation_size", "parameter_size", "output_size")
    return Work(
        flops=sum(_flops(node["args"]) for node in as_written),
        moved_bytes=sum(int(node["args"][size]) for node in as_run for size in sizes),
        kinds_s=dict(sorted(kinds_s.items(), key=lambda entry: -entry[1])),
    )


def _profile(model: Path, frames_shape: tuple[int, ...], level: Any) -> list[dict[str, Any]]:
    """Return ONNX Runtime's profile of each operator in a warm call."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.graph_optimization_level = level
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors share no base class but this
            reason = str(error).splitlines()[0]
            raise ModelFileError(f"{model} is no ONNX model ({reason}); export it again") from error
        for _ in range(2):
            session.run(["class_map"], {"frames": np.zeros(frames_shape, np.uint8)})
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    return kernels[len(kernels) // 2 :]


def _flops(node: dict[str, Any]) -> int:
    """Return the operations of one node, given its shapes."""
    kind = node["op_name"]
    inputs: list[list[int]]
    outputs: list[list[int]]
    inputs, outputs = (
        [next(iter(shape.values())) for shape in node[key]]
        for key in ("input_type_shape", "output_type_shape")
    )
    if kind == TRANSPOSED:
        return 2 * prod(inputs[0]) * prod(inputs[1][1:])
    if kind in CONVOLUTIONS:
        return 2 * prod(outputs[0]) * prod(inputs[CONVOLUTIONS[kind]][1:])
    return 0


def peak_flops() -> float:
    """Return the operations a second of a large matrix product in float32, on all cores."""
    side = 1536
    matrix = np.ones((side, side), np.float32)
    out = np.empty_like(matrix)
    return 2 * side**3 / _fastest_s(lambda: np.matmul(matrix, matrix, out=out))


def peak_bytes() -> float:
    """Return the bytes a second that a large copy reads and writes.

    One core copies; a large matrix times a vector, read by all cores, counts where it is faster.
    """
    side = 6144
    matrix, copied = np.ones((side, side), np.float32), np.zeros((side, side), np.float32)
    vector = np.ones(side, np.float32)
    copying_s = _fastest_s(lambda: np.copyto(copied, matrix))
    reading_s = _fastest_s(lambda: matrix @ vector)
    return max(2 * matrix.nbytes / copying_s, matrix.nbytes / reading_s)


def _fastest_s(function: Callable[[], object], times: int = 7) -> float:
    taken = []
    for _ in range(times):
        since = time.perf_counter()
        function()
        taken.append(time.perf_counter() - since)
    return min(taken)
