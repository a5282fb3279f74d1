"""Weights stored in half precision: half of the space, and the same decisions."""

from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numpy as np
import onnx
import torch
from conftest import CHECKPOINT, both, sample_frames
from onnx import TensorProto, numpy_helper
from safetensors import safe_open
from typer.testing import CliRunner

from roadseg.backends.runtimes import BACKENDS, open_backend
from roadseg.cli import app
from roadseg.deploy.export import LEAST_AGREEMENT, export_onnx, store_in_half
from roadseg.models.architectures import build_model
from roadseg.models.checkpoint import load_model, save_model
from roadseg.spec import ModelSpec

SPEC = ModelSpec(arch="unet", width=4, size_hw=(32, 64), output_stride=1)
SIZE_HW = (96, 160)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stored") / "single.onnx"
    export_onnx(CHECKPOINT, path)
    return path


@pytest.fixture(scope="module")
def half(single: Path) -> Path:
    path = single.with_name("half.onnx")
    export_onnx(CHECKPOINT, path, "half")
    return path


def rounded(path: Path) -> Path:
    """A copy of an exported model, its weights rounded but stored in single precision."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            values = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    copy = path.with_name("rounded.onnx")
    onnx.save(model, copy)
    return copy


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_compute_with_the_rounded_weights_in_single_precision(
    single, half, runtime
) -> None:
    pytest.importorskip(BACKENDS[runtime].module)
    frames = sample_frames(SIZE_HW, 2)
    with (
        closing(open_backend(half, runtime, 1)) as found,
        closing(open_backend(rounded(single), runtime, 1)) as expected,
        closing(open_backend(single, runtime, 1)) as unrounded,
    ):
        class_map, logits = both(found, frames)
        same_class_map, same_logits = both(expected, frames)
        assert (class_map == same_class_map).mean() > 0.9999
        np.testing.assert_allclose(logits, same_logits, atol=1e-3)
        assert (class_map == unrounded.run(frames).class_map).mean() > LEAST_AGREEMENT["half"]


def test_exported_file_takes_half_of_the_space_and_keeps_its_record(single, half) -> None:
    assert half.stat().st_size < 0.53 * single.stat().st_size
    models = [onnx.load(path) for path in (single, half)]
    onnx.checker.check_model(models[1], full_check=True)
    assert models[0].metadata_props == models[1].metadata_props
    assert not any(node.metadata_props for model in models for node in model.graph.node)


def test_model_file_takes_half_of_the_space_and_is_read_in_single_precision(tmp_path) -> None:
    network, spec = load_model(CHECKPOINT)
    save_model(tmp_path / "half.safetensors", network, spec, half=True)
    save_model(tmp_path / "single.safetensors", network, spec)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "single")]
    assert sizes[0] < 0.52 * sizes[1]
    read, read_spec = load_model(tmp_path / "half.safetensors")
    assert read_spec == spec
    for name, tensor in network.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        torch.testing.assert_close(read.state_dict()[name], expected, rtol=0, atol=0)


def test_what_half_precision_cannot_hold_stays_single(tmp_path) -> None:
    network = build_model(SPEC).eval()
    weights = dict(network.named_parameters())
    name, weight = next((n, w) for n, w in weights.items() if w.ndim == 4)
    with torch.no_grad():
        weight.fill_(1e5)
    save_model(tmp_path / "large.safetensors", network, SPEC, half=True)
    with safe_open(tmp_path / "large.safetensors", framework="pt") as file:
        kinds = {stored: file.get_tensor(stored).dtype for stored in weights}
    assert {n for n, kind in kinds.items() if kind == torch.float32} == {name}
    values = np.array([[1e5, 1.0]], np.float32)
    graph = onnx.helper.make_graph([], "g", [], [], [numpy_helper.from_array(values, "w")])
    model = onnx.helper.make_model(graph)
    store_in_half(model)
    assert [t.data_type for t in model.graph.initializer] == [TensorProto.FLOAT]
    assert not model.graph.node


def test_export_says_how_weights_are_stored_and_knows_no_third_way(tmp_path) -> None:
    model = tmp_path / "tiny.safetensors"
    save_model(model, build_model(SPEC), SPEC)
    done = CliRunner().invoke(app, ["export", str(model), "--store", "half"])
    assert done.exit_code == 0 and "weights rounded to half precision" in done.output
    refused = CliRunner().invoke(app, ["export", str(model), "--store", "bf16", "--overwrite"])
    assert "--store is 'bf16'; use one of: single, half" in str(refused.exception)
