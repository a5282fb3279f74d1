"""Networks from OpenVINO IR: read, run, and written within a wrapping."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roadseg.backends.openvino import DEVICE, KINDS, RECORD_PLACE, signal_stack_kept
from roadseg.backends.openvino_silent import ov
from roadseg.backends.runtimes import reason_of
from roadseg.deploy.adopt_graph import (
    FRAME_HW,
    NETWORK_INPUT,
    NETWORK_OUTPUT,
    USUAL_OPSET,
    Wrapping,
)
from roadseg.deploy.adopt_network import Outputs, Port, refuse_ours, refuse_run
from roadseg.errors import ModelFileError
from roadseg.files import output_errors
from roadseg.spec import ModelSpec

ALL_KINDS = KINDS | {"f16": "float16", "f64": "float64", "i64": "int64", "i32": "int32"}
"""Types of numbers as NumPy calls them."""
ONNX_TYPES = {
    **{"f16": 10, "bf16": 16, "f32": 1, "f64": 11},
    **{"u8": 2, "u16": 4, "u32": 12, "u64": 13},
    **{"i8": 3, "i16": 5, "i32": 6, "i64": 7, "boolean": 9},
}
"""The same as ONNX counts them, of what a network may give."""


class OpenVinoNetwork:
    """A network from OpenVINO IR.

    Args:
        path: The `.xml` file, for messages.
        model: Its graph.
    """

    @signal_stack_kept()
    def __init__(self, path: Path, model: ov.Model) -> None:
        self._path = path
        self._model = model
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._compiled = ov.Core().compile_model(model, DEVICE, settings)
        self.inputs = tuple(_port(end) for end in model.inputs)

    @signal_stack_kept()
    def run(self, batch: NDArray[Any]) -> Outputs:
        try:
            found = self._compiled(batch)
        except (RuntimeError, ValueError) as error:
            raise refuse_run(self._path, batch.shape, reason_of(error)) from error
        ends = enumerate(self._model.outputs)
        return {_name(end, i): np.array(found[i]) for i, end in ends}

    @signal_stack_kept()
    def write(self, wrapping: Wrapping, spec: ModelSpec, out: Path) -> None:
        model = _wrapped(self._model, wrapping)
        model.set_rt_info(spec.to_json(), list(RECORD_PLACE))
        with output_errors(out):
            ov.save_model(model, out, compress_to_fp16=False)


@signal_stack_kept()
def read(path: Path) -> OpenVinoNetwork:
    """Read a network.

    Raises:
        ModelFileError: The file is no OpenVINO IR, or one of ours.
    """
    try:
        model = ov.Core().read_model(path)
        if model.has_rt_info(list(RECORD_PLACE)):
            raise refuse_ours(path)
        return OpenVinoNetwork(path, model)
    except RuntimeError as error:
        raise ModelFileError(
            f"{path} is no OpenVINO model that can be run ({reason_of(error)}); its weights must "
            f"lie beside it as {path.with_suffix('.bin').name}"
        ) from error


def _port(end: ov.Output) -> Port:
    shape = end.partial_shape if end.partial_shape.rank.is_static else ()
    sides = (side.get_length() if side.is_static else None for side in shape)
    kind = end.element_type.get_type_name()
    return Port(_name(end, 0), ALL_KINDS.get(kind, kind), tuple(sides))


def _name(end: ov.Output, number: int) -> str:
    """Return the name of an input or output; some have none."""
    return min(end.get_names(), default=f"output_{number}")


def _wrapped(model: ov.Model, wrapping: Wrapping) -> ov.Model:
    """Return a copy of a network's model between head and tail."""
    network = model.clone()
    given = next(
        end for i, end in enumerate(network.outputs) if _name(end, i) == wrapping.given.name
    ).get_node()
    kind = ONNX_TYPES[given.input_value(0).get_element_type().get_type_name()]
    head, tail = (
        ov.Core().read_model(graph.SerializeToString())
        for graph in (wrapping.head(USUAL_OPSET), wrapping.tail(USUAL_OPSET, kind))
    )
    known = {name: r.input_value(0) for r in head.get_results() for name in _names(r)}
    _join(network.get_parameters()[0], known[NETWORK_INPUT])
    known[NETWORK_OUTPUT] = given.input_value(0)
    for parameter in tail.get_parameters():
        source = next(known[n] for n in (FRAME_HW, NETWORK_OUTPUT) if n in _names(parameter))
        _join(parameter, source)
    whole = ov.Model(tail.get_results(), head.get_parameters(), "roadseg")
    whole.validate_nodes_and_infer_types()
    return whole


def _names(node: ov.Node) -> set[str]:
    return set(node.output(0).get_names())


def _join(parameter: ov.Node, source: ov.Output) -> None:
    """Have what took a parameter take something else."""
    for target in parameter.output(0).get_target_inputs():
        target.replace_source_output(source)
