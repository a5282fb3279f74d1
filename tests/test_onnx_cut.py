"""A graph that is cut to some outputs gives them as the whole one does, and computes no others."""

from pathlib import Path

import numpy as np
import pytest
from conftest import WEIGHTS

from roadseg.backends.onnx_cut import cut_to
from roadseg.backends.onnxruntime import open_session
from roadseg.backends.runtimes import CLASS_MAP, LOGITS

onnx = pytest.importorskip("onnx")
FRAMES = np.random.default_rng(0).integers(0, 255, (1, 64, 96, 3), np.uint8)


@pytest.mark.parametrize("path", [WEIGHTS, WEIGHTS.with_suffix(".int8.onnx")], ids=str)
def test_logits_are_the_same_without_what_only_the_class_map_needs(path) -> None:
    whole, cut = open_session(path), open_session(path, LOGITS)
    (expected,) = whole.run(list(LOGITS), {"frames": FRAMES})
    assert [output.name for output in cut.get_outputs()] == ["logits"]
    np.testing.assert_array_equal(cut.run(None, {"frames": FRAMES})[0], expected)


def test_a_cut_graph_is_valid_and_has_no_node_that_nobody_needs() -> None:
    whole = onnx.load(WEIGHTS)
    cut = onnx.load_from_string(cut_to(WEIGHTS.read_bytes(), LOGITS))
    onnx.checker.check_model(cut)
    needed = {"logits"}.union(*(node.input for node in cut.graph.node))
    assert all(needed.intersection(node.output) for node in cut.graph.node)
    kept = {node.name for node in cut.graph.node}
    assert "ArgMax" in {node.op_type for node in whole.graph.node if node.name not in kept}
    assert cut.metadata_props == whole.metadata_props


def test_a_graph_of_which_all_is_wanted_stays_as_it_is() -> None:
    model = WEIGHTS.read_bytes()
    assert cut_to(model, [*CLASS_MAP, *LOGITS]) == model


def test_graphs_within_a_graph_are_left_alone() -> None:
    info, helper = onnx.TensorProto.FLOAT, onnx.helper
    branch = helper.make_graph(
        [helper.make_node("Neg", ["hidden"], ["negative"])],
        "branch",
        [],
        [helper.make_tensor_value_info("negative", info, [1])],
    )
    nodes = [
        helper.make_node("Abs", ["x"], ["hidden"]),
        helper.make_node("If", ["which"], ["logits"], then_branch=branch, else_branch=branch),
        helper.make_node("Exp", ["x"], ["class_map"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", info, [1]),
        helper.make_tensor_value_info("which", onnx.TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info(name, info, [1]) for name in ("logits", "class_map")]
    model = helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs))
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    assert cut_to(data, LOGITS) == data


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    path = tmp_path / "apart.onnx"
    onnx.save(onnx.load(WEIGHTS), path, save_as_external_data=True, location="weights.bin")
    assert (tmp_path / "weights.bin").stat().st_size > path.stat().st_size
    (found,) = open_session(path, LOGITS).run(None, {"frames": FRAMES})
    (expected,) = open_session(WEIGHTS, LOGITS).run(None, {"frames": FRAMES})
    np.testing.assert_array_equal(found, expected)
