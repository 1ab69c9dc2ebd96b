"""The operators of our backbones, rewritten (`rewrite`), in torch, for walking through a graph a node at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional

from ...graph.facts import attributes


def run(node: onnx.NodeProto, inputs: list[Tensor]) -> Tensor:
    """One node's output.

    Args:
        node: Of an operator listed in this file.
        inputs: ``float32``, all of the node's inputs, constants among them.

    Raises:
        ValueError: An operator or an attribute that no backbone of ours has.
    """
    if node.op_type not in _OPERATORS:
        raise ValueError(f"operator {node.op_type} is not known here; wanted one of {', '.join(_OPERATORS)}")
    return _OPERATORS[node.op_type](inputs, attributes(node))


def padded(x: Tensor, given: Mapping[str, Any], value: float = 0.0) -> Tensor:
    """A map with a node's padding around it."""
    top, left, bottom, right = given.get("pads", (0, 0, 0, 0))
    return functional.pad(x, (left, right, top, bottom), value=value)


def _conv(inputs: list[Tensor], given: Mapping[str, Any]) -> Tensor:
    if set(given.get("dilations", (1, 1))) != {1}:
        raise ValueError(f"dilations {given['dilations']}: wanted 1")
    bias = inputs[2] if len(inputs) > 2 else None
    strides, groups = tuple(given.get("strides", (1, 1))), given.get("group", 1)
    return functional.conv2d(padded(inputs[0], given), inputs[1], bias, strides, groups=groups)


def _max_pool(inputs: list[Tensor], given: Mapping[str, Any]) -> Tensor:
    kernel, strides = tuple(given["kernel_shape"]), tuple(given.get("strides", (1, 1)))
    around = padded(inputs[0], given, -torch.inf)
    return functional.max_pool2d(around, kernel, strides, ceil_mode=bool(given.get("ceil_mode", 0)))


def _clip(inputs: list[Tensor], given: Mapping[str, Any]) -> Tensor:
    return inputs[0].clamp(float(inputs[1]), float(inputs[2]))


_OPERATORS: dict[str, Callable[[list[Tensor], Mapping[str, Any]], Tensor]] = {
    "Add": lambda inputs, given: inputs[0] + inputs[1],
    "Clip": _clip,
    "Concat": lambda inputs, given: torch.cat(inputs, dim=given["axis"]),
    "Conv": _conv,
    "Identity": lambda inputs, given: inputs[0],
    "MaxPool": _max_pool,
    "Mul": lambda inputs, given: inputs[0] * inputs[1],
    "Relu": lambda inputs, given: inputs[0].relu(),
    "Transpose": lambda inputs, given: inputs[0].permute(*given["perm"]),
}
