"""Exchange an average pooling and a pointwise convolution beside it where the other order computes less.

Both are linear; one works on each channel, the other on each pixel, so they commute: the results are the same.
DenseNet's transitions convolve at full size and then pool; in the other order the convolution costs a quarter.
Inception's pooling branches pool all channels and then keep a few; in the other order there are fewer to pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from . import edit
from .facts import attribute


def reorder(graph: onnx.GraphProto) -> None:
    """Exchange them, in place, where that computes less.

    Postcondition: the same outputs but for float32's rounding, under the same names.
    """
    reads = Counter(name for node in graph.node for name in node.input)
    reads.update(value.name for value in graph.output)
    produced_by = edit.producers(graph.node)
    arrays = edit.arrays(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        before = produced_by.get(node.input[0])
        if before is None or reads[node.input[0]] > 1:
            continue
        shrinks = (
            node.op_type == "AveragePool"
            and max(attribute(node, "strides", (1,))) > 1
            and _is_pointwise(before, arrays)
        )
        narrows = before.op_type == "AveragePool" and _is_pointwise(node, arrays) and _has_fewer_outputs(node, arrays)
        if not shrinks and not narrows:
            continue
        source, between, output = before.input[0], before.output[0], node.output[0]
        node.input[0], node.output[0] = source, between
        before.input[0], before.output[0] = between, output
        if narrows and len(node.input) > 2:  # the bias is added behind, so that it is not pooled with padding's zeros
            before.CopyFrom(as_depthwise(before, len(arrays[node.input[2]]), graph, bias=node.input.pop()))
        nodes[nodes.index(before)], nodes[-1] = node, before
    edit.set_nodes(graph, nodes)


def as_depthwise(pooling: onnx.NodeProto, channels: int, graph: onnx.GraphProto, bias: str = "") -> onnx.NodeProto:
    """An AveragePool as a depthwise convolution; its weights are added to the graph.

    Args:
        pooling: The AveragePool.
        channels: How many channels it pools.
        graph: Where the weights are added.
        bias: A constant ``[C]`` that is added to the averages; none where empty.

    Raises:
        ValueError: The pooling leaves its padding out of the average, or rounds its output size up.
    """
    exact = not any(attribute(pooling, "pads", ())) or attribute(pooling, "count_include_pad", 0)
    if not exact or attribute(pooling, "ceil_mode", 0):
        raise ValueError("average pooling that leaves its padding out: wanted count_include_pad and no ceil_mode")
    kernel = attribute(pooling, "kernel_shape", ())
    weights = f"{pooling.name}/weight"
    edit.add_constants(graph, {weights: np.full((channels, 1, *kernel), 1 / np.prod(kernel), np.float32)})
    inputs = [pooling.input[0], weights, *filter(None, [bias])]
    depthwise = helper.make_node("Conv", inputs, pooling.output, pooling.name, group=channels)
    for name in ("kernel_shape", "pads", "strides"):
        if values := attribute(pooling, name, ()):
            depthwise.attribute.append(helper.make_attribute(name, values))
    return depthwise


def _is_pointwise(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a node is a convolution of one pixel over all channels."""
    if node.op_type != "Conv" or arrays[node.input[1]].shape[2:] != (1, 1):
        return False
    padded = any(attribute(node, "pads", ()))
    return attribute(node, "group", 1) == 1 and max(attribute(node, "strides", (1,))) == 1 and not padded


def _has_fewer_outputs(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a convolution gives fewer channels than it reads."""
    outputs, inputs = arrays[node.input[1]].shape[:2]
    return bool(outputs < inputs)
