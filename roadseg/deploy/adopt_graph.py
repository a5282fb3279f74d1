"""What goes around an adopted network: two small ONNX graphs, whatever its own format.

The head makes the network's input of `frames`, (N, H, W, 3) uint8 RGB; the tail makes `class_map`
and `logits` of its output. Together they are what `roadseg.models.segmenter` is to ours. They keep
to operators that mean the same in all versions that a network may be of.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from roadseg.spec import SegClass

LEAST_OPSET, USUAL_OPSET = 12, 18
"""Versions of ONNX's operators: the first that has all that is used here, and one known well."""
IR_VERSION = 8
LEAST_PROBABILITY = 1e-6
"""Below this a probability counts as this, so that it has a logarithm."""
ID_LOGIT = 8.0
"""Logit of the class that a network without logits decides for; the others have 0."""
MOST_ID = 255
"""What ids above stand for: nothing that a record can name."""
NETWORK_INPUT, NETWORK_OUTPUT = "network_input", "network_output"
FRAME_HW = "frame_hw"
"""Height and width of the frames, which the tail needs and the head knows."""
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "float64": TensorProto.DOUBLE,
    "uint8": TensorProto.UINT8,
}
"""Types of numbers that a network may take, by NumPy's names."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a network takes, and how its input is made of frames."""

    name: str
    """Name of its input."""
    kind: str
    """Type of its numbers, a key of `TYPES`."""
    is_nchw: bool
    """Whether the channels come before the rows."""
    is_bgr: bool
    """Whether blue is its first channel."""
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Taken from the levels, 0..255, of each of its channels."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the levels are then divided by."""

    def prepared(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the input for frames (N, H, W, 3) RGB: what the head computes, in NumPy."""
        channels = frames[..., ::-1] if self.is_bgr else frames
        if self.kind != "uint8":
            mean, std = (np.array(v, np.float32) for v in (self.mean, self.std))
            return self._ordered((channels.astype(np.float32) - mean) / std)
        return self._ordered(channels)

    def _ordered(self, channels: NDArray[Any]) -> NDArray[Any]:
        ordered = channels.transpose(0, 3, 1, 2) if self.is_nchw else channels
        return np.ascontiguousarray(ordered, self.kind)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a network gives that labels come from."""

    name: str
    """Name of the output."""
    kind: str
    """Whether these are logits, probabilities, of one choice or of each class by itself, or ids."""
    rank: int
    """Its dimensions; without that of the batch there is one less."""
    channel: int | None
    """Which of them are the classes, or has one channel of ids; None where ids have none."""
    classes: tuple[SegClass, ...]
    """The classes by id, C of them."""
    full_size: bool = False
    """Whether its height and width are always the frame's."""

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.classes)

    def scores(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """Return the logits (1, C, h, w) of an output: what the tail computes, in NumPy."""
        if self.kind == "ids":
            ids = self.ids(output)
            hot = np.arange(self.num_classes)[:, None, None] == ids[:, None]
            return np.where(hot, np.float32(ID_LOGIT), np.float32(0))
        assert self.channel is not None
        scores = np.moveaxis(output.astype(np.float32), self.channel, -3)
        scores = scores.reshape(1, *scores.shape[-3:])
        if self.kind == "probabilities":
            scores = np.log(np.maximum(scores, np.float32(LEAST_PROBABILITY)))
        return np.ascontiguousarray(scores, np.float32)

    def ids(self, output: NDArray[Any]) -> NDArray[np.int64]:
        """Return an output of ids as (1, h, w)."""
        plain = output if self.channel is None else output.squeeze(self.channel)
        return plain.reshape(1, *plain.shape[-2:]).astype(np.int64)


class Wrapping(NamedTuple):
    """Head and tail for one network."""

    taken: Taken
    """Its input."""
    given: Given
    """Its output."""

    def head(self, opset: int) -> onnx.ModelProto:
        """Return the graph from `frames` to the network's input and `FRAME_HW`."""
        steps = _Steps()
        taken, last = self.taken, "frames"
        if taken.is_bgr:
            last = steps.add("Gather", last, steps.constant([2, 1, 0]), axis=3)
        if taken.is_nchw:
            last = steps.add("Transpose", last, perm=[0, 3, 1, 2])
        if taken.kind != "uint8":
            last = self._normalised(steps, last)
        steps.add("Identity", last, output=NETWORK_INPUT)
        sides = steps.add("Shape", "frames")
        steps.add("Gather", sides, steps.constant([1, 2]), axis=0, output=FRAME_HW)
        return steps.model(
            opset,
            [_value("frames", TensorProto.UINT8, ["batch", "height", "width", 3])],
            [
                _value(NETWORK_INPUT, TYPES[taken.kind], [None] * 4),
                _value(FRAME_HW, TensorProto.INT64, [2]),
            ],
        )

    def tail(self, opset: int, kind: int) -> onnx.ModelProto:
        """Return the graph from the network's output, of an ONNX type, to ours."""
        steps, given = _Steps(), self.given
        if given.kind == "ids":
            self._outputs_of_ids(steps)
        else:
            self._outputs_of_scores(steps)
        return steps.model(
            opset,
            [
                _value(NETWORK_OUTPUT, kind, [None] * given.rank),
                _value(FRAME_HW, TensorProto.INT64, [2]),
            ],
            [
                _value("class_map", TensorProto.UINT8, ["batch", "height", "width"]),
                _value("logits", TensorProto.FLOAT, ["batch", given.num_classes, "rows", "cells"]),
            ],
        )

    def _normalised(self, steps: "_Steps", levels: str) -> str:
        shape = (3, 1, 1) if self.taken.is_nchw else (3,)
        mean, std = (
            np.array(v, np.float32).reshape(shape) for v in (self.taken.mean, self.taken.std)
        )
        last = steps.add("Cast", levels, to=TensorProto.FLOAT)
        if mean.any():
            last = steps.add("Sub", last, steps.constant(mean))
        if (std != 1).any():
            last = steps.add("Div", last, steps.constant(std))
        kind = TYPES[self.taken.kind]
        return last if kind == TensorProto.FLOAT else steps.add("Cast", last, to=kind)

    def _outputs_of_ids(self, steps: "_Steps") -> None:
        given, last = self.given, NETWORK_OUTPUT
        if given.channel is not None:
            last = steps.add("Gather", last, steps.constant(0), axis=given.channel)
        if given.rank - (given.channel is not None) == 2:  # no batch
            last = steps.add("Expand", last, steps.constant([1, 1, 1]))
        # What has no name must stay so in 8 bits.
        last = steps.add("Cast", last, to=TensorProto.FLOAT)
        last = steps.add("Min", last, steps.constant(np.float32(MOST_ID)))
        ids = steps.add("Cast", last, to=TensorProto.INT64)
        depth = steps.constant(given.num_classes)
        values = steps.constant(np.array([0, ID_LOGIT], np.float32))
        steps.add("OneHot", ids, depth, values, axis=1, output="logits")
        if given.full_size:
            steps.add("Cast", ids, to=TensorProto.UINT8, output="class_map")
        else:
            self._decided(steps)

    def _outputs_of_scores(self, steps: "_Steps") -> None:
        given, last = self.given, NETWORK_OUTPUT
        if given.rank == 3:  # no batch
            last = steps.add("Expand", last, steps.constant([1, 1, 1, 1]))
        if given.channel == given.rank - 1:
            last = steps.add("Transpose", last, perm=[0, 3, 1, 2])
        last = steps.add("Cast", last, to=TensorProto.FLOAT)
        if given.kind == "probabilities":
            last = steps.add("Max", last, steps.constant(np.float32(LEAST_PROBABILITY)))
            last = steps.add("Log", last)
        steps.add("Identity", last, output="logits")
        self._decided(steps)

    def _decided(self, steps: "_Steps") -> None:
        """Decide by the logits, at the frames' size."""
        last = "logits"
        if not self.given.full_size:
            shape = steps.add("Shape", last)
            kept = steps.add("Gather", shape, steps.constant([0, 1]), axis=0)
            wanted = steps.add("Concat", kept, FRAME_HW, axis=0)
            none = steps.constant(np.zeros(0, np.float32))
            last = steps.add("Resize", last, none, none, wanted, mode="linear")
        last = steps.add("ArgMax", last, axis=1, keepdims=0)
        steps.add("Cast", last, to=TensorProto.UINT8, output="class_map")


@dataclass
class _Steps:
    """Nodes, one after the other, and the constants that they take."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def model(
        self, opset: int, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """Return the graph of all nodes."""
        graph = helper.make_graph(self.nodes, "roadseg", inputs, outputs, self.constants)
        versions = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=versions, ir_version=IR_VERSION)


def _value(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
