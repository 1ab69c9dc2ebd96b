"""Where a graph is quantized: which tensors become 8-bit, and which of them share one scale.

The places are those at which both engines stay in integers: ONNX Runtime fuses a convolution only where its result is
quantized too, and OpenVINO only where all branches that meet before a convolution share one scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import onnx

from ...graph import edit
from ...graph.names import NORMALIZED, is_preprocess
from .rewrite import is_output_rescale

ACTIVATIONS = ("Relu", "Clip")

_QUANTIZABLE = ("Conv", "Add", "Concat", "MaxPool")
"""Operators that engines run in 8 bits where their input is in 8 bits."""


@dataclass(frozen=True)
class Placement:
    """Where a graph is quantized.

    Attributes:
        scale_owner: Each tensor that is quantized, and the tensor whose scale it takes: itself, where it has its own.
        folded: Names of the activation nodes that may fold into the quantization of their output, which cuts off what
            they cut off.
        float_layers: Names of the convolutions that stay float.
    """

    scale_owner: dict[str, str]
    folded: frozenset[str]
    float_layers: frozenset[str]


def place(model: onnx.ModelProto, float_layers: Collection[str] = ()) -> Placement:
    """Choose the tensors to quantize.

    Args:
        model: An FP32 backbone, rewritten (`rewrite`).
        float_layers: Names of convolutions that stay float.
    """
    nodes = list(model.graph.node)
    scale_owner = _share_scales(nodes, _quantized_tensors(nodes, float_layers))
    folded = (node.name for node in nodes if node.op_type in ACTIVATIONS and node.output[0] in scale_owner)
    return Placement(scale_owner, frozenset(folded), frozenset(float_layers))


def _quantized_tensors(nodes: Sequence[onnx.NodeProto], float_layers: Collection[str]) -> dict[str, str]:
    """What quantized convolutions read, and what operators in 8 bits give; each with itself as the scale's owner."""
    readers = edit.readers(nodes)

    def activated(tensor: str) -> str:
        """The output of the activation that is the only reader of this tensor, or the tensor itself."""
        behind = readers[tensor]
        return behind[0].output[0] if len(behind) == 1 and behind[0].op_type in ACTIVATIONS else tensor

    def feeds_convolution(tensor: str) -> bool:
        return any(
            reader.op_type == "Conv" and reader.name not in float_layers and not is_output_rescale(reader)
            for reader in readers[tensor]
        )

    quantized = {NORMALIZED: NORMALIZED} if feeds_convolution(NORMALIZED) else {}
    for node in nodes:
        if is_preprocess(node) or is_output_rescale(node):
            continue
        tensor = activated(node.output[0])
        in_8_bits = node.op_type in _QUANTIZABLE and node.input[0] in quantized and node.name not in float_layers
        if in_8_bits or feeds_convolution(tensor):
            quantized[tensor] = tensor
    return quantized


def _share_scales(nodes: Sequence[onnx.NodeProto], quantized: dict[str, str]) -> dict[str, str]:
    """Let the pieces of each Concat take its scale, and the output of each MaxPool its input's."""
    owner = dict(quantized)

    def find(tensor: str) -> str:
        while owner[tensor] != tensor:
            tensor = owner[tensor]
        return tensor

    for node in reversed(nodes):
        output = node.output[0]
        if node.op_type == "Concat" and output in owner:
            for piece in node.input:
                owner.setdefault(piece, piece)
                owner[find(piece)] = find(output)
        elif node.op_type == "MaxPool" and output in owner and node.input[0] in owner:
            owner[find(output)] = find(node.input[0])
    return {tensor: find(tensor) for tensor in owner}
