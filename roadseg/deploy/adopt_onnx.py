"""Networks from ONNX files: read, run, and written within a wrapping."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import compose, helper, version_converter

from roadseg.backends.onnxruntime import open_session
from roadseg.backends.onnxruntime_silent import ort
from roadseg.backends.runtimes import reason_of
from roadseg.deploy.adopt_graph import (
    FRAME_HW,
    IR_VERSION,
    LEAST_OPSET,
    NETWORK_INPUT,
    NETWORK_OUTPUT,
    Wrapping,
)
from roadseg.deploy.adopt_network import Outputs, Port, refuse_ours, refuse_run
from roadseg.errors import ModelFileError
from roadseg.files import output_errors
from roadseg.spec import ModelSpec

KINDS = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
"""Types of numbers whose names differ from NumPy's."""
PREFIX = "network/"
"""What the names of the network's own parts begin with, beside those of the wrapping."""
MOST_BYTES = 2**31 - 1
"""Largest ONNX file without others beside it."""


class OnnxNetwork:
    """A network from an ONNX file.

    Args:
        path: The file, for messages.
        session: What runs it.
        model: What is wrapped.
    """

    def __init__(self, path: Path, session: ort.InferenceSession, model: onnx.ModelProto) -> None:
        self._path = path
        self._session = session
        self._model = model
        self.inputs = tuple(_port(end) for end in session.get_inputs())

    def run(self, batch: NDArray[Any]) -> Outputs:
        names = [end.name for end in self._session.get_outputs()]
        try:
            found = self._session.run(names, {self.inputs[0].name: batch})
        except Exception as error:  # the runtime's errors share no base class but this
            raise refuse_run(self._path, batch.shape, reason_of(error)) from error
        # What is no tensor, such as a sequence, can be no labels.
        return {n: v for n, v in zip(names, found, strict=True) if isinstance(v, np.ndarray)}

    def write(self, wrapping: Wrapping, spec: ModelSpec, out: Path) -> None:
        model = _wrapped(self._model, wrapping)
        helper.set_model_props(model, {"roadseg": spec.to_json()})
        if model.ByteSize() > MOST_BYTES:
            raise ModelFileError(
                f"{self._path} has {model.ByteSize() / 1e9:.1f} GB, and an ONNX file at most "
                f"{MOST_BYTES / 1e9:.1f}; export it in half precision"
            )
        with output_errors(out):
            out.write_bytes(model.SerializeToString())


def read(path: Path) -> OnnxNetwork:
    """Read a network.

    Raises:
        ModelFileError: The file is no ONNX model, or one of ours.
    """
    session = open_session(path)
    try:
        model = onnx.load(path)
        if _opset(model) < LEAST_OPSET:
            model = version_converter.convert_version(model, LEAST_OPSET)
    except (DecodeError, ValueError, RuntimeError, OSError, onnx.checker.ValidationError) as error:
        raise ModelFileError(
            f"{path} is no ONNX model that can be wrapped ({reason_of(error)}); export it with "
            f"opset {LEAST_OPSET} or later"
        ) from error
    if any(entry.key == "roadseg" for entry in model.metadata_props):
        raise refuse_ours(path)
    return OnnxNetwork(path, session, model)


def _port(end: ort.NodeArg) -> Port:
    kind = KINDS.get(end.type, end.type.removeprefix("tensor(").removesuffix(")"))
    return Port(end.name, kind, tuple(s if isinstance(s, int) else None for s in end.shape))


def _opset(model: onnx.ModelProto) -> int:
    return next((v.version for v in model.opset_import if v.domain in ("", "ai.onnx")), 0)


def _wrapped(model: onnx.ModelProto, wrapping: Wrapping) -> onnx.ModelProto:
    """Return a copy of a network's model between head and tail."""
    whole = compose.add_prefix(model, PREFIX, rename_functions=False)
    opset, graph = _opset(model), whole.graph
    taken, given = (f"{PREFIX}{end.name}" for end in (wrapping.taken, wrapping.given))
    kind = next(end.type.tensor_type.elem_type for end in graph.output if end.name == given)
    head = _renamed(wrapping.head(opset), {NETWORK_INPUT: taken}, "head/")
    tail = _renamed(wrapping.tail(opset, kind), {NETWORK_OUTPUT: given}, "tail/")
    nodes = [*head.graph.node, *graph.node, *tail.graph.node]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(head.graph.input)
    graph.output.extend(tail.graph.output)
    graph.initializer.extend([*head.graph.initializer, *tail.graph.initializer])
    whole.ir_version = max(whole.ir_version, IR_VERSION)
    return whole


def _renamed(model: onnx.ModelProto, own: dict[str, str], prefix: str) -> onnx.ModelProto:
    """Return one end of a wrapping with names that fit a network's, and clash with none."""
    ends = {"frames", "class_map", "logits", FRAME_HW}

    def name(old: str) -> str:
        return own.get(old) or (old if old in ends or not old else f"{prefix}{old}")

    for node in model.graph.node:
        node.input[:] = map(name, node.input)
        node.output[:] = map(name, node.output)
        node.name = ""
    for constant in model.graph.initializer:
        constant.name = name(constant.name)
    return model
