"""Surgery on graphs: each function keeps its postcondition."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_all.export.graph import edit
from edge_all.export.graph.facts import attribute


@pytest.fixture
def model() -> onnx.ModelProto:
    """``float32 [N, 2, 4, 4]`` "x", a convolution, a ReLU and a sum of its output with itself, "y"."""
    nodes = edit.Nodes()
    weights = nodes.constant("w", np.ones((3, 2, 3, 3), np.float32))
    convolved = nodes.add("Conv", ["x", weights], "c", "conv", pads=[1, 1, 1, 1])
    positive = nodes.add("Relu", [convolved], "r", "relu")
    nodes.add("Add", [positive, positive], "y", "sum")
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 4, 4])
    graph = helper.make_graph(nodes.nodes, "small", [source], [output], nodes.initializers())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", edit.OPSET)], ir_version=edit.IR_VERSION)


def test_a_copy_is_deep(model: onnx.ModelProto) -> None:
    duplicate = edit.copy(model)
    assert duplicate == model
    edit.set_constant(duplicate.graph, "w", np.zeros((3, 2, 3, 3), np.float32))
    duplicate.graph.node[0].name = "other"
    assert edit.arrays(model.graph)["w"].all() and model.graph.node[0].name == "conv"


def test_constants_that_nobody_reads_are_dropped(model: onnx.ModelProto) -> None:
    edit.add_constants(model.graph, {"unread": np.zeros(2, np.float32)})
    assert list(edit.arrays(model.graph)) == ["w", "unread"]
    edit.drop_unread(model.graph)
    assert list(edit.arrays(model.graph)) == ["w"]
    without = edit.rebuilt(model, list(model.graph.node)[1:], model.graph.initializer)
    assert not without.graph.initializer and len(model.graph.initializer) == 1


def test_a_tensor_is_renamed_wherever_it_is_named(model: onnx.ModelProto) -> None:
    edit.rename(model.graph, {"x": "pixels", "w": "weights", "y": "maps"})
    onnx.checker.check_model(model, full_check=True)
    assert list(model.graph.node[0].input) == ["pixels", "weights"]
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["pixels", "maps"]


def test_shapes_and_channels(model: onnx.ModelProto) -> None:
    assert edit.shapes(model)["c"] == (0, 3, 4, 4)
    shapes = edit.shapes(model, batch=5)
    assert (shapes["x"], shapes["c"], shapes["w"]) == ((5, 2, 4, 4), (5, 3, 4, 4), (3, 2, 3, 3))
    assert edit.channels(model)["r"] == edit.width(model.graph.output[0]) == 3
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_who_reads_and_who_computes_a_tensor(model: onnx.ModelProto) -> None:
    readers, producers = edit.readers(model.graph.node), edit.producers(model.graph.node)
    assert [node.name for node in readers["r"]] == ["sum", "sum"] and readers["y"] == []
    assert producers["r"].name == "relu" and "x" not in producers


def test_a_part_of_a_model(model: onnx.ModelProto) -> None:
    part = edit.extract(onnx.shape_inference.infer_shapes(model), ["c"], ["y"])
    assert [node.name for node in part.graph.node] == ["relu", "sum"]
    assert part.graph.name == "small" and not part.graph.initializer
    with pytest.raises(ValueError, match="other"):
        edit.extract(model, ["x"], ["other"])


def test_an_attribute_or_its_default(model: onnx.ModelProto) -> None:
    convolution = model.graph.node[0]
    assert attribute(convolution, "pads", ()) == (1, 1, 1, 1)
    assert attribute(convolution, "group", 1) == 1 and attribute(convolution, "epsilon", 0.5) == 0.5
