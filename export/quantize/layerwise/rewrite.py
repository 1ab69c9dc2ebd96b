"""Write a backbone in operators that engines run in 8 bits throughout; what it computes stays the same.

DenseNet needs it most: each of its layers reads all layers before it through a BatchNorm of its own, and as exported,
these BatchNorms would convert every map to float32 and back.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, shape_inference

from ...graph import edit
from ...graph.facts import attribute
from ...graph.names import BACKBONE, is_backbone, is_map
from ...graph.reorder import as_depthwise


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite a backbone for `placement`.

    - A BatchNorm that no convolution took in, and average pooling, become depthwise convolutions. Their weights have a
      scale for each channel, so that they lose little in 8 bits.
    - A Concat that begins with all that an earlier one joined takes that one's result: two pieces are copied faster
      than many.
    - Between a MaxPool and a Concat stands an Identity: here the scale changes from that of what was pooled to that of
      what is joined.
    - Behind every map stands an output rescale: a depthwise, pointwise convolution that changes nothing.
      `align_channels` may scale and shift the channels before it. The rescale undoes this with its weights and biases,
      which later become a per-channel scale and an Add (`qdq`).

    Precondition: an FP32 backbone as `edge_all.export.graph.build` writes it. Postcondition: the same function of
    the image but for float32's rounding; no BatchNormalization and no AveragePool is left.
    """
    rewritten = edit.copy(model)
    graph = rewritten.graph
    width = edit.channels(model)
    _add_output_rescales(graph, width)
    _make_depthwise(graph, width)
    _chain_concats(graph)
    _separate_scales(graph)
    edit.drop_unread(graph)
    return shape_inference.infer_shapes(rewritten, strict_mode=True)


def is_output_rescale(node: onnx.NodeProto) -> bool:
    """Whether a node of a rewritten backbone is an output rescale."""
    return node.op_type == "Conv" and is_map(node.output[0])


def _add_output_rescales(graph: onnx.GraphProto, width: dict[str, int]) -> None:
    nodes = []
    inner: dict[str, str] = {}
    for node in graph.node:
        nodes.append(node)
        if not is_backbone(node):
            continue
        node.input[:] = [inner.get(name, name) for name in node.input]
        output = node.output[0]
        if is_map(output):
            node.output[0] = inner[output] = f"{BACKBONE}{output}"
            channels = width[inner[output]] = width[output]
            unchanged = np.ones(channels), np.zeros(channels)
            nodes.append(_depthwise(f"{BACKBONE}exit/{output}", inner[output], output, *unchanged, graph))
    edit.set_nodes(graph, nodes)


def _make_depthwise(graph: onnx.GraphProto, width: Mapping[str, int]) -> None:
    arrays = edit.arrays(graph)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            scale, shift, mean, variance = (arrays[name].astype(np.float64) for name in node.input[1:])
            weights = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
            bias = shift - mean * weights
            node.CopyFrom(_depthwise(node.name, node.input[0], node.output[0], weights, bias, graph))
        elif node.op_type == "AveragePool":
            node.CopyFrom(as_depthwise(node, width[node.output[0]], graph))


def _chain_concats(graph: onnx.GraphProto) -> None:
    joined: dict[str, list[str]] = {}
    for node in _concats(graph):
        pieces = list(node.input)
        beginnings = [name for name, others in joined.items() if pieces[: len(others)] == others]
        if beginnings:
            longest = max(beginnings, key=lambda name: len(joined[name]))
            node.input[:] = [longest, *pieces[len(joined[longest]) :]]
        joined[node.output[0]] = pieces


def _separate_scales(graph: onnx.GraphProto) -> None:
    concats = _concats(graph)
    read = edit.tensors_read(concats)
    nodes = []
    for node in graph.node:
        nodes.append(node)
        output = node.output[0]
        if node.op_type == "MaxPool" and output in read:
            nodes.append(helper.make_node("Identity", [output], [f"{output}/joined"], f"{node.name}/joined"))
            for concat in concats:
                concat.input[:] = [f"{output}/joined" if name == output else name for name in concat.input]
    edit.set_nodes(graph, nodes)


def _concats(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The backbone's, which join maps; the one behind the pooling joins features."""
    return [node for node in graph.node if node.op_type == "Concat" and is_backbone(node)]


def _depthwise(
    name: str, source: str, output: str, weights: np.ndarray, bias: np.ndarray, graph: onnx.GraphProto
) -> onnx.NodeProto:
    """A convolution that multiplies each channel with a weight and adds a bias, both ``[C]``, added to the graph."""
    constants = {f"{name}/weight": weights[:, None, None, None], f"{name}/bias": bias}
    edit.add_constants(graph, {key: value.astype(np.float32) for key, value in constants.items()})
    return helper.make_node("Conv", [source, *constants], [output], name, group=len(bias), kernel_shape=[1, 1])
