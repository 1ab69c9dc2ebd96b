"""Write a backbone in operators that engines run in 8 bits throughout; what it computes stays the same.

DenseNet needs it most: each of its layers reads all before it through a BatchNorm of its own, and as they are, those
send every map through float32 and back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from ...graph.facts import attributes
from ...graph.reorder import as_depthwise

MAP = "map_"
"""Begins the names of the tensors that are pooled into features."""


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a backbone for `placement`.

    - BatchNorm that no convolution took in, and average pooling, become depthwise convolutions. What these multiply a
      channel with has a step of its own, and loses nothing in 8 bits.
    - A Concat that begins with all that an earlier one joined takes that one's result: two pieces are copied sooner
      than many.
    - What a MaxPool hands to a Concat goes through an Identity: the place to change from the scale of what was pooled
      to that of what is joined.
    - Every map goes through an exit: a depthwise convolution of one pixel that changes nothing. `balance` may scale and
      shift the channels before it, and the exit, which is no more than the step of each channel, undoes it.

    Precondition: an FP32 backbone as `edge_all.export.graph.build` writes it. Postcondition: the same function of
    the image but for float32's rounding; no BatchNormalization and no AveragePool is left.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    width = _widths(model)
    _add_exits(graph, width)
    _make_depthwise(graph, width)
    _chain_concats(graph)
    _part_scales(graph)
    read = {name for node in graph.node for name in node.input}
    kept = [array for array in graph.initializer if array.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return shape_inference.infer_shapes(written, strict_mode=True)


def is_exit(node: onnx.NodeProto) -> bool:
    """Whether a node of a rewritten backbone is an exit."""
    return node.op_type == "Conv" and node.output[0].startswith(MAP)


def _add_exits(graph: onnx.GraphProto, width: dict[str, int]) -> None:
    nodes = []
    inner: dict[str, str] = {}
    for node in graph.node:
        nodes.append(node)
        if not node.name.startswith("backbone/"):
            continue
        node.input[:] = [inner.get(name, name) for name in node.input]
        output = node.output[0]
        if output.startswith(MAP):
            node.output[0] = inner[output] = f"backbone/{output}"
            channels = width[inner[output]] = width[output]
            unchanged = np.ones(channels), np.zeros(channels)
            nodes.append(_factor(f"backbone/exit/{output}", inner[output], output, *unchanged, graph))
    _set_nodes(graph, nodes)


def _make_depthwise(graph: onnx.GraphProto, width: Mapping[str, int]) -> None:
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in node.input[1:])
            weights = scale / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
            bias = shift - mean * weights
            node.CopyFrom(_factor(node.name, node.input[0], node.output[0], weights, bias, graph))
        elif node.op_type == "AveragePool":
            node.CopyFrom(as_depthwise(node, width[node.output[0]], graph))


def _chain_concats(graph: onnx.GraphProto) -> None:
    joined: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type == "Concat" and node.name.startswith("backbone/"):
            pieces = list(node.input)
            begun = [name for name, others in joined.items() if pieces[: len(others)] == others]
            if begun:
                longest = max(begun, key=lambda name: len(joined[name]))
                node.input[:] = [longest, *pieces[len(joined[longest]) :]]
            joined[node.output[0]] = pieces


def _part_scales(graph: onnx.GraphProto) -> None:
    concats = [node for node in graph.node if node.op_type == "Concat" and node.name.startswith("backbone/")]
    read = {name for node in concats for name in node.input}
    nodes = []
    for node in graph.node:
        nodes.append(node)
        output = node.output[0]
        if node.op_type == "MaxPool" and output in read:
            nodes.append(helper.make_node("Identity", [output], [f"{output}/joined"], f"{node.name}/joined"))
            for concat in concats:
                concat.input[:] = [f"{output}/joined" if name == output else name for name in concat.input]
    _set_nodes(graph, nodes)


def _factor(
    name: str, reads: str, gives: str, weights: np.ndarray, bias: np.ndarray, graph: onnx.GraphProto
) -> onnx.NodeProto:
    """A convolution that multiplies each channel with a weight and adds a bias, both ``[C]``."""
    constants = {f"{name}/weight": weights[:, None, None, None], f"{name}/bias": bias}
    graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), key) for key, a in constants.items())
    return helper.make_node("Conv", [reads, *constants], [gives], name, group=len(bias), kernel_shape=[1, 1])


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """Channels of every map of the backbone."""
    values = shape_inference.infer_shapes(model).graph.value_info
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {name: dims[1].dim_value for name, dims in shapes.items() if len(dims) == 4}
