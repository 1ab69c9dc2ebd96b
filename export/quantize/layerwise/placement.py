"""Where a quantized graph rounds: which tensors become 8-bit, and which of them share one scale.

The places are those that both engines run without a detour through float: ONNX Runtime fuses a convolution only where
its result is rounded too, and OpenVINO only where all branches that meet before a convolution share one scale.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from .rewrite import is_exit

ACTIVATIONS = ("Relu", "Clip")

_ROUNDED = ("Conv", "Add", "Concat", "MaxPool")
"""Operators that engines run in 8 bits, given 8 bits."""


@dataclass(frozen=True)
class Placement:
    """Where to round.

    Attributes:
        leader: Each tensor to round, and the tensor whose scale it takes (itself, where it has its own).
        absorbed: Names of the activation nodes that rounding does by itself: below zero there is nothing to round to.
        floating: Names of the convolutions that stay float.
    """

    leader: dict[str, str]
    absorbed: frozenset[str]
    floating: frozenset[str]


def place(model: onnx.ModelProto, source: str, floating: Collection[str] = ()) -> Placement:
    """Find the tensors to round.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        source: The tensor that the first convolution reads.
        floating: Names of convolutions that stay float.
    """
    nodes = list(model.graph.node)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in nodes:
        for name in node.input:
            readers[name].append(node)

    def activated(tensor: str) -> str:
        """The tensor behind an activation that alone reads this one."""
        behind = readers[tensor]
        return behind[0].output[0] if len(behind) == 1 and behind[0].op_type in ACTIVATIONS else tensor

    def feeds_convolution(tensor: str) -> bool:
        return any(
            reader.op_type == "Conv" and reader.name not in floating and not is_exit(reader)
            for reader in readers[tensor]
        )

    rounded = {source: source} if feeds_convolution(source) else {}
    for node in nodes:
        if node.name.startswith("preprocess/") or is_exit(node):
            continue
        tensor = activated(node.output[0])
        in_8_bits = node.op_type in _ROUNDED and node.input[0] in rounded and node.name not in floating
        if in_8_bits or feeds_convolution(tensor):
            rounded[tensor] = tensor

    def find(tensor: str) -> str:
        while rounded[tensor] != tensor:
            tensor = rounded[tensor]
        return tensor

    for node in reversed(nodes):
        output = node.output[0]
        if node.op_type == "Concat" and output in rounded:
            for piece in node.input:
                rounded.setdefault(piece, piece)
                rounded[find(piece)] = find(output)
        elif node.op_type == "MaxPool" and output in rounded and node.input[0] in rounded:
            rounded[find(output)] = find(node.input[0])
    leader = {tensor: find(tensor) for tensor in rounded}
    absorbed = frozenset(n.name for n in nodes if n.op_type in ACTIVATIONS and n.output[0] in leader)
    return Placement(leader, absorbed, frozenset(floating))
