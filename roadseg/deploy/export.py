"""Export a trained network to an ONNX file, and verify the file against PyTorch."""

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import nn

from roadseg.backends.onnxruntime_silent import ort
from roadseg.errors import ExportError
from roadseg.files import check_not_input, replacing
from roadseg.models.checkpoint import load_model
from roadseg.models.half import HalfSegmenter
from roadseg.models.segmenter import Segmenter
from roadseg.spec import ModelSpec, choose

OPSET = 18
LEAST_AGREEMENT = {"single": 0.999, "half": 0.99}
"""Least share of pixels in which the graph must agree with PyTorch, by the precision in which its
weights are stored; rounding flips a few."""


def export_onnx(
    model_path: Path, out: Path, stored: str = "single", *, half: bool = False
) -> ModelSpec:
    """Export a model file to ONNX, normalisation and argmax included.

    The graph takes `frames` (N, H, W, 3) uint8 RGB with sides that are multiples of 32, and gives
    `class_map` (N, H, W) uint8 and `logits` (N, C, H/s, W/s) float32; in half precision int32 and
    float16. The model's record is stored in the file's metadata under "roadseg".

    Args:
        model_path: `.safetensors` file from training.
        out: File to write atomically.
        stored: Precision in which the weights are stored, a key of `LEAST_AGREEMENT`.
        half: Have it compute in half precision too, for runtimes that take their types from the
            graph; else it computes in single precision whatever is stored.

    Raises:
        ModelFileError: The model file is not ours.
        ConfigError: It is the file to write, or there is no such precision.
        ExportError: The exported graph disagrees with PyTorch.
        OutputError: The file cannot be written.
    """
    least = choose(LEAST_AGREEMENT, stored, "--store")
    check_not_input(out, "--out", model_path)
    network, spec = load_model(model_path)
    segmenter = HalfSegmenter(network) if half else Segmenter(network).eval()
    with replacing(out) as temporary:
        model = graph_of(segmenter, spec)
        if stored == "half":
            store_in_half(model)
        onnx.save(model, temporary)
        _verify(temporary, segmenter, spec, LEAST_AGREEMENT["half"] if half else least)
    return spec


def graph_of(segmenter: nn.Module, spec: ModelSpec) -> onnx.ModelProto:
    """Return a segmenter as an ONNX graph for any size, with a record in it."""
    # The graph takes any size; the example must have more than one block a side.
    example = torch.zeros(2, 96, 128, 3, dtype=torch.uint8)
    batch, rows, columns = (
        torch.export.Dim(name, max=limit)
        for name, limit in (("batch", 64), ("rows", 128), ("columns", 128))
    )
    # It warns about torchvision, which is not needed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its notes on its own deprecations
        program = torch.onnx.export(
            segmenter,
            (example,),
            input_names=["frames"],
            output_names=["class_map", "logits"],
            dynamic_shapes=({0: batch, 1: 32 * rows, 2: 32 * columns},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # it is only None when a file name was given
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # the exporter's notes, which take more room than the nodes
    helper.set_model_props(model, {"roadseg": spec.to_json()})
    return model


def store_in_half(model: onnx.ModelProto) -> None:
    """Store a graph's weights as float16, each with a cast to float32 behind it.

    The graph computes in float32 as before, with rounded weights; runtimes cast them once, as they
    load it. Scalars and vectors, which are small, and what does not fit stay in float32.
    """
    casts = []
    for tensor in model.graph.initializer:
        halved = _halved(tensor)
        if halved is not None:
            name, stored = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(numpy_helper.from_array(halved, stored))
            casts.append(helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]  # in the order of computation
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _halved(tensor: onnx.TensorProto) -> NDArray[np.float16] | None:
    """Return a weight in half precision; None if it is to stay as it is."""
    if tensor.data_type != onnx.TensorProto.FLOAT or len(tensor.dims) < 2:
        return None
    with np.errstate(over="ignore"):
        halved = numpy_helper.to_array(tensor).astype(np.float16)
    return halved if np.isfinite(halved).all() else None


def _verify(path: Path, segmenter: nn.Module, spec: ModelSpec, least: float) -> None:
    """Compare the file with PyTorch on noise at two sizes."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for size_hw in (spec.size_hw, (spec.size_hw[0] + 32, spec.size_hw[1] + 64)):
        coarse = rng.integers(0, 256, (1, *(side // 16 for side in size_hw), 3), np.uint8)
        frames = coarse.repeat(16, axis=1).repeat(16, axis=2)
        (class_map,) = session.run(["class_map"], {"frames": frames})
        with torch.inference_mode():
            expected = segmenter(torch.from_numpy(frames))[0].numpy()
        agreement = float((class_map == expected).mean())
        if agreement < least:
            raise ExportError(
                f"the exported graph agrees with PyTorch on {agreement:.2%} of pixels at "
                f"{size_hw[1]}x{size_hw[0]}; at least {least:.1%} is needed; "
                "this is a fault of the exporter, please report it with the model file"
            )
