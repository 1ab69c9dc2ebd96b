"""Shared surgery on ONNX graphs: the toolchain reads and edits graphs through these functions.

A graph has nodes, in topological order, and constants: named arrays, which ONNX calls initializers. Functions that take
a model do not change it; functions that take a graph and return nothing edit it in place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

OPSET = 18
"""The ai.onnx version of every graph that the toolchain writes."""

IR_VERSION = 10
"""The version of the ONNX file format of every backbone that the toolchain writes."""

Message = TypeVar("Message", onnx.ModelProto, onnx.NodeProto)


class Nodes:
    """New nodes, each with one output, and the constants that they read, in the order in which they were added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant and return its name. Postcondition: a name that was used before has the new value."""
        self.constants[name] = value
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str, name: str = "", **attributes: Any) -> str:
        """Add a node and return its output's name. Postcondition: the node is the last of `nodes`."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def initializers(self) -> list[onnx.TensorProto]:
        """The constants in the form that a graph holds."""
        return [numpy_helper.from_array(value, name) for name, value in self.constants.items()]

    def append_to(self, graph: onnx.GraphProto) -> None:
        """Postcondition: the nodes and the constants are the last ones of the graph."""
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers())


def copy(message: Message) -> Message:
    """A deep copy. Postcondition: an edit of the copy leaves the original as it is."""
    duplicate = type(message)()
    duplicate.CopyFrom(message)
    return duplicate


def rebuilt(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], constants: Iterable[onnx.TensorProto]
) -> onnx.ModelProto:
    """A copy with these nodes only.

    Postcondition: it has those of the constants that a node reads, in their order, and no shapes of inner tensors.
    """
    duplicate = copy(model)
    graph = duplicate.graph
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    drop_unread(graph)
    return duplicate


def extract(model: onnx.ModelProto, inputs: Collection[str], outputs: Collection[str]) -> onnx.ModelProto:
    """The part of a model between some tensors.

    Postcondition: these are its inputs and outputs, it has the model's name, and no node or constant that the outputs
    do not need.

    Raises:
        ValueError: The shape of one of these tensors is not in the model: infer shapes first.
    """
    part = onnx.utils.Extractor(model).extract_model(list(inputs), list(outputs))
    part.graph.name = model.graph.name
    return part


def set_nodes(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Postcondition: the graph has these nodes, in this order, and no others."""
    nodes = list(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def arrays(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The graph's constants by name; the arrays may be read-only."""
    return {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}


def add_constants(graph: onnx.GraphProto, values: Mapping[str, np.ndarray]) -> None:
    """Postcondition: these constants are the last ones of the graph."""
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in values.items())


def set_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    """Postcondition: the constant of this name has this value, and its place is the same.

    Raises:
        KeyError: The graph has no such constant.
    """
    for constant in graph.initializer:
        if constant.name == name:
            constant.CopyFrom(numpy_helper.from_array(value, name))
            return
    raise KeyError(name)


def drop_unread(graph: onnx.GraphProto) -> None:
    """Postcondition: every constant is read by a node, and their order is the same."""
    read = tensors_read(graph.node)
    constants = [constant for constant in graph.initializer if constant.name in read]
    del graph.initializer[:]
    graph.initializer.extend(constants)


def rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Postcondition: every tensor and constant that is a key of `names` has the name that is its value there."""
    for node in graph.node:
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        node.output[:] = [names.get(tensor, tensor) for tensor in node.output]
    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)


def free_batch(graph: onnx.GraphProto) -> None:
    """Postcondition: the first dimension of every input and output is free and called N."""
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def tensors_read(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """Names of all tensors and constants that these nodes read."""
    return {name for node in nodes for name in node.input}


def readers(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor, in order, one that reads it twice twice; an empty list where nobody does."""
    by_tensor: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            by_tensor[name].append(node)
    return by_tensor


def producers(nodes: Iterable[onnx.NodeProto]) -> dict[str, onnx.NodeProto]:
    """The node that computes each tensor."""
    return {name: node for node in nodes for name in node.output}


def width(value: onnx.ValueInfoProto) -> int:
    """Size of the second dimension of an input or output, such as the number of features of ``[N, C]``."""
    return int(value.type.tensor_type.shape.dim[1].dim_value)


def size(backbone: onnx.ModelProto) -> tuple[int, int]:
    """Height and width of a backbone's input, ``uint8 [N, H, W, 3]``, in pixels."""
    _, height, width, _ = backbone.graph.input[0].type.tensor_type.shape.dim
    return height.dim_value, width.dim_value


def shapes(model: onnx.ModelProto, batch: int | None = None) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors and constants, by shape inference.

    Args:
        model: A model whose inputs and outputs have shapes.
        batch: Size of the first dimension of inputs and outputs; None leaves it as it is.

    Returns:
        Shapes by name; a free dimension is 0.
    """
    if batch is not None:
        model = copy(model)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
    graph = shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return sizes | {constant.name: tuple(constant.dims) for constant in graph.initializer}


def channels(model: onnx.ModelProto) -> dict[str, int]:
    """Size of the second dimension of every tensor that has one, by name: how many channels a map has."""
    return {name: shape[1] for name, shape in shapes(model).items() if len(shape) > 1}
