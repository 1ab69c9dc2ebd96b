"""The operators of a rewritten backbone (`rewrite`) in torch, to run a graph one node at a time."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from ...graph.facts import attribute


def run(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
    """Run one node.

    Args:
        node: Of an operator listed in this file.
        inputs: ``float32``, all of the node's inputs, constants among them.

    Returns:
        The node's output.

    Raises:
        ValueError: No backbone has this operator or this attribute.
    """
    if node.op_type not in _OPERATORS:
        raise ValueError(f"operator {node.op_type} is not known here; wanted one of {', '.join(_OPERATORS)}")
    return _OPERATORS[node.op_type](node, inputs)


def padded(x: Tensor, node: onnx.NodeProto, value: float = 0.0) -> Tensor:
    """A map ``[N, C, H, W]`` with a node's padding around it."""
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    return functional.pad(x, (left, right, top, bottom), value=value)


def _conv(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
    dilations = attribute(node, "dilations", (1, 1))
    if set(dilations) != {1}:
        raise ValueError(f"dilations {dilations}: wanted 1")
    bias = inputs[2] if len(inputs) > 2 else None
    strides, groups = attribute(node, "strides", (1, 1)), attribute(node, "group", 1)
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    if (top, left) == (bottom, right):  # without a padded copy of the map
        return functional.conv2d(inputs[0], inputs[1], bias, strides, (top, left), groups=groups)
    return functional.conv2d(padded(inputs[0], node), inputs[1], bias, strides, groups=groups)


def _max_pool(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
    kernel, strides = attribute(node, "kernel_shape", (1, 1)), attribute(node, "strides", (1, 1))
    ceil = bool(attribute(node, "ceil_mode", 0))
    return functional.max_pool2d(padded(inputs[0], node, -torch.inf), kernel, strides, ceil_mode=ceil)


def _clip(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
    return inputs[0].clamp(float(inputs[1]), float(inputs[2]))


_OPERATORS: dict[str, Callable[[onnx.NodeProto, list[Tensor]], Tensor]] = {
    "Add": lambda node, inputs: inputs[0] + inputs[1],
    "Clip": _clip,
    "Concat": lambda node, inputs: torch.cat(inputs, dim=attribute(node, "axis", 1)),
    "Conv": _conv,
    "Identity": lambda node, inputs: inputs[0],
    "MaxPool": _max_pool,
    "Mul": lambda node, inputs: inputs[0] * inputs[1],
    "Relu": lambda node, inputs: inputs[0].relu(),
    "Transpose": lambda node, inputs: inputs[0].permute(*attribute(node, "perm", (0, 1, 2, 3))),
}
