"""Models in half precision for ONNX Runtime on a GeForce RTX: graphs for any size.

They are what `roadseg export --half` writes, compared with their source on the GPU itself. The
provider compiles them for the GPU when they are opened.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from roadseg.backends.onnxruntime_rtx import (
    ALL_ON_GPU,
    ANY_GPU,
    find_device,
    open_session,
    version,
)
from roadseg.backends.onnxruntime_silent import ort
from roadseg.deploy.builders import Source, checkpoint_of
from roadseg.deploy.export import graph_of
from roadseg.files import output_errors
from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter

__all__ = ["FIXED_SHAPE", "PRECISIONS", "SUFFIX", "build", "census", "device", "version"]

PRECISIONS = ("fp16",)
SUFFIX = ".onnx"
FIXED_SHAPE = False
NAMES: dict[int | None, str] = {onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.FLOAT: "fp32"}
"""Our names of ONNX's types of weights."""
ASSIGNED = {"session.record_ep_graph_assignment_info": "1"}
"""Has a session note which provider runs which part of its graph."""


def device() -> str:
    """Return the GPUs that a file is for. Raises `BackendUnavailable` where there is none here."""
    find_device()
    return ANY_GPU


def build(source: Source, out: Path) -> None:
    """Write the graph of a checkpoint in half precision.

    Raises:
        ConfigError: The model is no checkpoint: the types of an exported graph are set already.
        OutputError: The file cannot be written.
    """
    network, _ = load_model(checkpoint_of(source))
    with output_errors(out):
        onnx.save(graph_of(HalfSegmenter(network), source.spec), out)


def census(path: Path, frames: NDArray[np.uint8]) -> "Counter[str]":
    """Count the convolutions that the GPU executes, by the precision of their weights."""
    return convolutions_on(find_device(), path, frames.shape, ALL_ON_GPU)


def convolutions_on(
    device: "ort.OrtEpDevice", path: Path, shape: tuple[int, ...], entries: dict[str, str]
) -> "Counter[str]":
    """Count the convolutions of a graph that a device executes for one shape of frames."""
    session = open_session(path, shape, device, {}, entries | ASSIGNED)
    graph = onnx.load(path).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    precisions = {
        node.name: NAMES.get(types.get(node.input[1]), "unknown")
        for node in graph.node
        if node.op_type == "Conv"
    }
    return Counter(
        precisions[node.name]
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == device.ep_name
        for node in part.get_nodes()
        if node.name in precisions
    )
