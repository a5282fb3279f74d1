"""Model files whose record or graph is not what it should be: one error, and one sentence."""

import json
import struct
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from roadseg.backends.onnx_record import read_metadata
from roadseg.backends.runtimes import BACKENDS, open_backend
from roadseg.errors import ModelFileError
from roadseg.spec import ModelSpec

SPEC = ModelSpec(arch="unet", width=4, class_names=("a", "b"), palette=((1, 2, 3), (4, 5, 6)))
RECORD: dict[str, Any] = json.loads(SPEC.to_json())
BUILD = {
    "source_sha256": "0" * 64,
    "runtime": "onnxruntime",
    "runtime_version": None,
    "device": None,
    "precision": "int8",
    "shape": [1, 384, 512],
    "fixed_shape": False,
}


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(BACKENDS[request.param].module)
    return request.param


def write_model(
    path: Path,
    record: str | None = None,
    *,
    numbers: int | None = None,
    level: float = 0.0,
    frames: tuple[int, Any] = (TensorProto.UINT8, ["n", "h", "w", 3]),
    class_map: tuple[int, Any] = (TensorProto.UINT8, ["n", "h", "w"]),
    logits: tuple[int, Any] | None = (TensorProto.FLOAT, ["n", 2, "h", "w"]),
) -> Path:
    """A graph that is true to its types, gives one level, and makes an array of so many numbers."""
    kind, shape = class_map
    ends = [("class_map", kind, shape)] + ([("logits", *logits)] if logits else [])
    nodes, constants = [helper.make_node("Shape", ["frames"], ["hw"], start=0, end=1)], []
    if numbers:
        constants.append(helper.make_tensor("numbers", TensorProto.INT64, [1], [numbers]))
        nodes += [
            helper.make_node("ConstantOfShape", ["numbers"], ["many"]),
            helper.make_node("ReduceMax", ["many"], ["most"], keepdims=0),
        ]
    for name, kind, shape in ends:
        sides = [side if isinstance(side, int) else -1 for side in shape]
        dims = [f"{name}-{axis}" for axis in range(len(sides))]
        for axis, (dim, side) in enumerate(zip(dims, sides, strict=True)):
            from_frames = {"logits": (0, 0, 1, 2)}.get(name, (0, 1, 2))[min(axis, 2)]
            if side < 0:
                nodes.append(
                    helper.make_node(
                        "Shape", ["frames"], [dim], start=from_frames, end=from_frames + 1
                    )
                )
            else:
                constants.append(helper.make_tensor(dim, TensorProto.INT64, [1], [side]))
        nodes.append(helper.make_node("Concat", dims, [f"{name}-shape"], axis=0))
        value = helper.make_tensor("value", TensorProto.FLOAT, [1], [level])
        nodes.append(
            helper.make_node("ConstantOfShape", [f"{name}-shape"], [f"{name}-level"], value=value)
        )
        summed = f"{name}-level"
        if numbers:
            summed = f"{name}-sum"
            nodes.append(helper.make_node("Add", [f"{name}-level", "most"], [summed]))
        nodes.append(helper.make_node("Cast", [summed], [name], to=kind))
    outputs = [helper.make_tensor_value_info(*end) for end in ends]
    inputs = [helper.make_tensor_value_info("frames", *frames)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {"roadseg": json.dumps(RECORD) if record is None else record})
    onnx.save(model, path)
    return path


def test_graph_and_record_that_fit_are_run(runtime, tmp_path) -> None:
    with closing(open_backend(write_model(tmp_path / "m.onnx"), runtime)) as backend:
        frames = np.zeros((1, 32, 64, 3), np.uint8)
        assert backend.run(frames).class_map.shape == (1, 32, 64)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
sizes = st.sampled_from([-1, 0, 1, 31, 32, 256, 2**31, 2**63, 10**400, 1.5, True, "32", None])
changed_values = st.one_of(
    json_values, sizes, st.lists(sizes, max_size=4), st.lists(st.lists(sizes, max_size=4))
)


@settings(max_examples=300)
@given(
    changes=st.dictionaries(st.sampled_from([*RECORD, "build", "extra"]), changed_values),
    build=st.none() | st.dictionaries(st.sampled_from([*BUILD, "extra"]), changed_values),
    dropped=st.sets(st.sampled_from(sorted(RECORD)), max_size=2),
)
def test_record_is_read_as_a_model_that_can_be_or_refused(changes, build, dropped) -> None:
    record = {name: value for name, value in RECORD.items() if name not in dropped} | changes
    if build is not None:
        record["build"] = BUILD | build
    try:
        spec = ModelSpec.from_json(json.dumps(record), Path("m.onnx"))
    except ModelFileError as error:
        assert str(error).startswith("m.onnx ")
        return
    assert len(spec.palette) == spec.num_classes == len(set(spec.class_names))
    assert all(len(color) == 3 and 0 <= min(color) <= max(color) < 256 for color in spec.palette)
    assert all(side > 0 and side % 32 == 0 for side in spec.size_hw)
    assert "".join(spec.class_names).encode()
    assert ModelSpec.from_json(spec.recolored("colorblind").to_json(), Path("m.onnx")).num_classes


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "null", "7", '"x"', "[1]", "{", "\x00", "9" * 9999]
)
def test_record_that_is_no_object_is_refused(text) -> None:
    with pytest.raises(ModelFileError, match="damaged roadseg record"):
        ModelSpec.from_json(text, Path("m.onnx"))


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": ["a", "b", "c"], "palette": [[0, 0, 0]] * 3},
        {"class_names": ["a"], "palette": [[0, 0, 0]]},
        {"palette": [[0, 0, 0]]},
        {"palette": [[0, 0, 0], [0, 0, 256]]},
        {"palette": "red"},
        {"class_names": ["a", "a"]},
        {"class_names": "ab"},
        {"class_names": ["a", "\ud800"]},
        {"class_names": ["a", "\x1b[31m"]},
        {"size_hw": [384, 500]},
        {"size_hw": [2**40, 2**40]},
        {"size_hw": [-32, 32]},
        {"size_hw": [32]},
        {"build": {**BUILD, "shape": [1, 2]}},
        {"build": []},
    ],
    ids=str,
)
def test_file_whose_record_is_wrong_is_refused(runtime, changes, tmp_path) -> None:
    path = write_model(tmp_path / "m.onnx", json.dumps(RECORD | changes))
    with pytest.raises(ModelFileError, match=r"m\.onnx"):
        open_backend(path, runtime)


@pytest.mark.parametrize(
    "graph",
    [
        {"logits": None},
        {"logits": (TensorProto.FLOAT, ["n", 3, "h", "w"])},
        {"logits": (TensorProto.FLOAT, ["n", 2])},
        {"logits": (TensorProto.FLOAT16, ["n", 2, "h", "w"])},
        {"logits": (TensorProto.BFLOAT16, ["n", 2, "h", "w"])},
        {"class_map": (TensorProto.INT64, ["n", "h", "w"])},
        {"class_map": (TensorProto.UINT8, ["n", "h"])},
        {"frames": (TensorProto.FLOAT, ["n", "h", "w", 3])},
        {"frames": (TensorProto.UINT8, ["n", "h", "w", 4])},
        {"frames": (TensorProto.UINT8, ["n", "h", 3])},
    ],
    ids=str,
)
def test_file_whose_graph_does_not_fit_its_record_is_refused(runtime, graph, tmp_path) -> None:
    with pytest.raises(ModelFileError, match="does not fit its own record"):
        open_backend(write_model(tmp_path / "m.onnx", **graph), runtime)


def test_model_that_gives_ids_of_no_class_is_refused(runtime, tmp_path) -> None:
    path = write_model(tmp_path / "m.onnx", level=2.0)
    with (
        closing(open_backend(path, runtime)) as backend,
        pytest.raises(ModelFileError, match="gives the id 2, and there are 2 classes"),
    ):
        backend.run(np.zeros((1, 32, 64, 3), np.uint8))


def test_model_that_wants_terabytes_is_refused(runtime, tmp_path, capfd) -> None:
    path = write_model(tmp_path / "m.onnx", numbers=10**13)
    with (
        pytest.raises(ModelFileError, match=r"m\.onnx.*cannot be run on 1 frames of 64x32"),
        closing(open_backend(path, runtime)) as backend,
    ):
        backend.run(np.zeros((1, 32, 64, 3), np.uint8))
    assert not capfd.readouterr().err


@settings(max_examples=100)
@given(data=st.binary(max_size=60), tail=st.sampled_from([b"", b"\xff" * 4096]))
def test_bytes_of_any_kind_have_no_metadata_or_some(data, tail, tmp_path_factory) -> None:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(data + tail)
    assert isinstance(read_metadata(path), dict)


def test_field_of_exabytes_is_none(tmp_path) -> None:
    path = tmp_path / "m.onnx"
    for number in (14, 7):
        path.write_bytes(struct.pack("B", number << 3 | 2) + b"\xff" * 8 + b"\x7f")
        assert read_metadata(path) == {}
