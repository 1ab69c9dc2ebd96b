"""What an ONNX graph tells about itself: its nodes' attributes, and what its convolutions cost."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
from onnx import shape_inference


@dataclass(frozen=True)
class Convolution:
    """What a convolution costs for one image.

    Attributes:
        macs: Multiply-accumulates.
        weights: How many it has.
        maps: Values that it reads and writes.
    """

    macs: int
    weights: int
    maps: int


@dataclass(frozen=True)
class Size:
    """What a graph costs.

    Attributes:
        macs: Multiply-accumulates of its convolutions for one image.
        bytes: Of the file.
    """

    macs: int
    bytes: int


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as Python values."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def convolutions(model: onnx.ModelProto) -> list[Convolution]:
    """Those of a graph for images, in order."""
    one = onnx.ModelProto()
    one.CopyFrom(model)
    for value in (*one.graph.input, *one.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(one).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    shapes |= {constant.name: list(constant.dims) for constant in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            reads, weights, writes = (shapes[name] for name in (*node.input[:2], node.output[0]))
            found.append(Convolution(prod(writes) * prod(weights[1:]), prod(weights), prod(reads) + prod(writes)))
    return found


def size(model: onnx.ModelProto) -> Size:
    """Multiply-accumulates and bytes of a graph."""
    return Size(sum(convolution.macs for convolution in convolutions(model)), model.ByteSize())
