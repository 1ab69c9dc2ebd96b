"""Graph inspection: attributes of nodes, and the cost of a graph's convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TypeVar

import onnx

from .edit import shapes

Attribute = TypeVar("Attribute", int, float, tuple[int, ...])


@dataclass(frozen=True)
class Convolution:
    """The cost of a convolution for one image.

    Attributes:
        name: Of its node.
        kernel: Its height and width.
        groups: Of channels.
        macs: Multiply-accumulates.
        weights: How many weights it has.
        maps: How many values it reads and writes.
    """

    name: str
    kernel: tuple[int, ...]
    groups: int
    macs: int
    weights: int
    maps: int


@dataclass(frozen=True)
class Size:
    """The cost of a graph.

    Attributes:
        macs: Multiply-accumulates of its convolutions for one image.
        bytes: Of the file.
    """

    macs: int
    bytes: int


def attribute(node: onnx.NodeProto, name: str, default: Attribute) -> Attribute:
    """A node's attribute, or a default, which also says its type: ``attribute(node, "strides", (1, 1))``."""
    for entry in node.attribute:
        if entry.name == name:
            return type(default)(onnx.helper.get_attribute_value(entry))
    return default


def convolutions(model: onnx.ModelProto) -> list[Convolution]:
    """The convolutions of a graph that takes images, in order."""
    sizes = shapes(model, batch=1)
    costs = []
    for node in model.graph.node:
        if node.op_type == "Conv":
            reads, weights, writes = (sizes[name] for name in (*node.input[:2], node.output[0]))
            macs, maps = prod(writes) * prod(weights[1:]), prod(reads) + prod(writes)
            groups = attribute(node, "group", 1)
            costs.append(Convolution(node.name, weights[2:], groups, macs, prod(weights), maps))
    return costs


def size(model: onnx.ModelProto) -> Size:
    """Multiply-accumulates and bytes of a graph."""
    return Size(sum(convolution.macs for convolution in convolutions(model)), model.ByteSize())
