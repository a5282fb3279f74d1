"""Networks as others export them: each says which of red, green and blue is strongest where."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, save

CLASSES = "name,color\nroad,#ff0000\nvegetation,#00ff00\nsky,#0000ff\n"
"""What they call red, green and blue."""
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
SIDES = ["batch", 3, "height", "width"]
FLOAT, HALF, BYTE, LONG, INT = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.UINT8,
    TensorProto.INT64,
    TensorProto.INT32,
)


class Foreign(NamedTuple):
    """How one is exported, and what has to be said of it."""

    nodes: Sequence[tuple[Any, ...]]
    """Operator, inputs, outputs, and attributes if it has any."""
    input: tuple[int, list[Any]] = (FLOAT, SIDES)
    """Type and shape of `x`."""
    outputs: Sequence[tuple[str, int, int]] = (("y", FLOAT, 4),)
    """Names, types and numbers of dimensions."""
    options: dict[str, Any] = {"input_range": "0..255"}  # noqa: RUF012
    """For `AdoptConfig`."""
    opset: int = 13

    def model(self) -> ModelProto:
        constants = {
            "reversed": np.array([2, 1, 0]),
            "stored": np.eye(3, dtype=np.float16).reshape(3, 3, 1, 1),
            "mean": np.array(MEAN, np.float32).reshape(3, 1, 1),
            "std": np.array(STD, np.float32).reshape(3, 1, 1),
            "sharp": np.float32(30),
            "first": np.array(0),
            "nothing": np.float32(0),
            "sixtyfold": np.array([1, 1, 64, 64], np.float32),
            "none": np.zeros(0, np.float32),
            "one_size": np.array([1, 3, 128, 192]),
        }
        nodes = [
            helper.make_node(name, inputs.split(), outputs.split(), **dict(*more))
            for name, inputs, outputs, *more in self.nodes
        ]
        used = {name for node in nodes for name in node.input}
        kind, shape = self.input
        graph = helper.make_graph(
            nodes,
            "foreign",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(n, k, [None] * rank) for n, k, rank in self.outputs],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items() if n in used],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )

    def write(self, path: Path) -> Path:
        save(self.model(), path)
        return path


RECOVERED = (("Mul", "x std", "s"), ("Add", "s mean", "rgb"))
"""Undoes the normalisation, so that the network is right only if it was done."""
KINDS = {
    "NHWC bytes, logits": Foreign(
        [("Cast", "x", "y", {"to": FLOAT})], (BYTE, [1, 64, 96, 3]), options={}
    ),
    "BGR, fixed, logits": Foreign(
        [("Gather", "x reversed", "y", {"axis": 1})],
        (FLOAT, [1, 3, 64, 96]),
        options={"input_range": "0..255", "bgr": True},
    ),
    "weights stored in half precision": Foreign(
        [("Cast", "stored", "kernel", {"to": FLOAT}), ("Conv", "x kernel", "y")]
    ),
    "odd size": Foreign([("Identity", "x", "y")], (FLOAT, [1, 3, 65, 97])),
    "half precision": Foreign(
        [("Identity", "x", "y")],
        (HALF, ["batch", 3, "height", "width"]),
        (("y", HALF, 4),),
        {"input_range": "0..1"},
    ),
    "dynamic, normalised, probabilities of stride 4, another head": Foreign(
        [
            *RECOVERED,
            ("AveragePool", "rgb", "p", {"kernel_shape": [4, 4], "strides": [4, 4]}),
            ("Mul", "p sharp", "q"),
            ("Softmax", "q", "y", {"axis": 1}),
            ("GlobalAveragePool", "rgb", "verdict"),
        ],
        outputs=(("verdict", FLOAT, 4), ("y", FLOAT, 4)),
        options={"mean": MEAN, "std": STD},
    ),
    "logits without a batch, named as ours are": Foreign(
        [("Gather", "x first", "logits", {"axis": 0})], outputs=(("logits", FLOAT, 3),)
    ),
    "ids with a channel": Foreign(
        [("ArgMax", "x", "y", {"axis": 1, "keepdims": 1})], outputs=(("y", LONG, 4),)
    ),
    "ids at stride 4": Foreign(
        [
            ("MaxPool", "x", "p", {"kernel_shape": [4, 4], "strides": [4, 4]}),
            ("ArgMax", "p", "i", {"axis": 1, "keepdims": 0}),
            ("Cast", "i", "y", {"to": INT}),
        ],
        outputs=(("y", INT, 3),),
    ),
    "old operators, ids as floats": Foreign(
        [
            ("ArgMax", "x", "i", {"axis": 1, "keepdims": 0}),
            ("Cast", "i", "y", {"to": FLOAT}),
        ],
        outputs=(("y", FLOAT, 3),),
        opset=9,
    ),
    "logits of one size, whatever the input's": Foreign(
        [("Resize", "x none none one_size", "y", {"mode": "linear"})]
    ),
    "probabilities of each class by itself": Foreign(
        [("Sigmoid", "x", "y")], options={"mean": MEAN, "std": (0.1, 0.1, 0.1)}
    ),
    "multiples of 64": Foreign(
        [
            ("AveragePool", "x", "p", {"kernel_shape": [64, 64], "strides": [64, 64]}),
            ("Upsample", "p sixtyfold", "u", {"mode": "nearest"}),
            ("Mul", "u nothing", "n"),
            ("Add", "x n", "y"),
        ],
        opset=9,
    ),
}
