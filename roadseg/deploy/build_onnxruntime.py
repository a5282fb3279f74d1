"""8-bit models by ONNX Runtime's static quantisation: Q/DQ nodes around most convolutions.

The files are plain ONNX, and OpenVINO runs them too.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from roadseg.backends.machine import cpu_kind
from roadseg.backends.onnxruntime import open_session, version
from roadseg.deploy.builders import Source

# isort: split
# Below, for the runtime is to be silenced before anything of it is imported.
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

__all__ = ["FIXED_SHAPE", "PRECISIONS", "SUFFIX", "build", "census", "device", "version"]

PRECISIONS = ("int8",)
SUFFIX = ".onnx"
FIXED_SHAPE = False
FLOAT_STEM = 3
"""Convolutions at the beginning that stay in FP32, in the graph's order.

An error made there is in everything after it. At night `roads` decides 83 % of the pixels as in
FP32 with none left out, 86 with one, 95 with three and with six, which take a fifth longer; by day
it is 99.5 to 99.6 with any.
"""
QUANTISED = ("Conv", "Clip", "Relu", "Concat", "Add")
"""Operators whose results are rounded to 8 bits.

A convolution's result is rounded once, after what follows it cut it off. Rounded before that as
well, as with `Conv` alone, it is turned to FP32 and back between any two convolutions, for a third
of the network's time.
"""
EXECUTED = {"Conv": "fp32", "FusedConv": "fp32", "QLinearConv": "int8"}
"""Precision of a convolution by its operator in the optimised graph, contrib domains included."""


def device() -> str:
    """Return the kind of CPU: which kernels run, and whether sums of 8 bits overflow, is by it."""
    return cpu_kind()


def build(source: Source, out: Path) -> None:
    """Write the model with its convolutions in 8 bits, weights by channel."""
    with TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source.exported, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
    quantize_static(
        model,
        out,
        _Frames(source.frames),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(QUANTISED),
        nodes_to_exclude=_float_convolutions(model, source.spec.num_classes),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        # The largest value of all frames is an outlier; the mean of each frame's largest is not.
        extra_options={"CalibMovingAverage": True},
    )
    written = onnx.load(out)
    onnx.helper.set_model_props(written, {"roadseg": source.spec.to_json()})
    onnx.save(written, out)


def census(path: Path, frames: NDArray[np.uint8]) -> "Counter[str]":  # noqa: ARG001 any shape
    """Count the convolutions of the graph that ONNX Runtime makes of a file, by precision."""
    with TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimized_model_filepath=str(optimised))
        nodes = onnx.load(optimised).graph.node
    return Counter(EXECUTED[node.op_type] for node in nodes if node.op_type in EXECUTED)


def _float_convolutions(model: onnx.ModelProto, num_classes: int) -> list[str]:
    """Return the names of the convolutions that stay in FP32: the first, and those to classes."""
    outputs = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    heads = [node for node in convolutions if outputs.get(node.input[1]) == num_classes]
    return [node.name for node in [*convolutions[:FLOAT_STEM], *heads]]


class _Frames(CalibrationDataReader):  # type: ignore[misc]
    """Hands out network inputs one by one."""

    def __init__(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next input by its name, or None at the end."""
        frames = next(self._left, None)
        return None if frames is None else {"frames": frames}
