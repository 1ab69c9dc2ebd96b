"""Average pooling and a convolution of one pixel beside it, in the order that computes less: the sums are the same.

Both are linear, and one works on each channel, the other on each pixel, so they commute. DenseNet's transitions
convolve at full size and pool then: the other way round the convolution takes a quarter. Inception's pooling branches
pool all channels and keep a few: the other way round there are fewer to pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .facts import attributes


def reorder(graph: onnx.GraphProto) -> None:
    """Change the order, in place, where that computes less.

    Postcondition: the same outputs but for float32's rounding, under the same names.
    """
    read = Counter(name for node in graph.node for name in node.input)
    read.update(value.name for value in graph.output)
    made_by = {node.output[0]: node for node in graph.node}
    arrays = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        before = made_by.get(node.input[0])
        if before is None or read[node.input[0]] > 1:
            continue
        shrinks = (
            node.op_type == "AveragePool"
            and max(attributes(node).get("strides", [1])) > 1
            and _is_pixelwise(before, arrays)
        )
        narrows = before.op_type == "AveragePool" and _is_pixelwise(node, arrays) and _keeps_fewer(node, arrays)
        if not shrinks and not narrows:
            continue
        source, between, output = before.input[0], before.output[0], node.output[0]
        node.input[0], node.output[0] = source, between
        before.input[0], before.output[0] = between, output
        if narrows and len(node.input) > 2:  # what is added must not be pooled with the zeros around
            before.CopyFrom(as_depthwise(before, len(arrays[node.input[2]]), graph, bias=node.input.pop()))
        nodes[nodes.index(before)], nodes[-1] = node, before
    del graph.node[:]
    graph.node.extend(nodes)


def as_depthwise(pooling: onnx.NodeProto, channels: int, graph: onnx.GraphProto, bias: str = "") -> onnx.NodeProto:
    """An AveragePool as a convolution with a group for each channel, its weights added to the graph.

    Raises:
        ValueError: It leaves its padding out of the average, or rounds its size up.
    """
    given = attributes(pooling)
    exact = not any(given.get("pads", [])) or given.get("count_include_pad")
    if not exact or given.get("ceil_mode"):
        raise ValueError("average pooling that leaves its padding out: wanted count_include_pad and no ceil_mode")
    kernel = given["kernel_shape"]
    weights = np.full((channels, 1, *kernel), 1 / np.prod(kernel), np.float32)
    graph.initializer.append(numpy_helper.from_array(weights, f"{pooling.name}/weight"))
    reads = [pooling.input[0], f"{pooling.name}/weight", *filter(None, [bias])]
    kept = {name: value for name, value in given.items() if name in ("kernel_shape", "pads", "strides")}
    return helper.make_node("Conv", reads, pooling.output, pooling.name, group=channels, **kept)


def _is_pixelwise(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    if node.op_type != "Conv" or arrays[node.input[1]].shape[2:] != (1, 1):
        return False
    given = attributes(node)
    return given.get("group", 1) == 1 and max(given.get("strides", [1])) == 1 and not any(given.get("pads", []))


def _keeps_fewer(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    gives, takes = arrays[node.input[1]].shape[:2]
    return bool(gives < takes)
