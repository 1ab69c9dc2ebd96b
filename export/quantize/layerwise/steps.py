"""Calibration images through the FP32 graph and the quantized graph side by side, one convolution in 8 bits at a time.

A step is a convolution in 8 bits and what follows up to the next one: what its weights become decides what the next one
reads. Within a step the images run one after the other, so that what a step's nodes pass on stays in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from edge_all.progress import Progress

from ...graph.names import NORMALIZED
from . import walk
from .convolution import Pair, quantize_convolution
from .placement import Placement
from .qdq import QuantizedConvolution
from .rewrite import is_output_rescale
from .scales import Quantization


@dataclass(frozen=True)
class Step:
    """Nodes that run together, in order.

    Attributes:
        nodes: The first is a convolution in 8 bits, except perhaps in the graph's first step.
        kept: Names of the tensors that later steps read.
    """

    nodes: Sequence[onnx.NodeProto]
    kept: frozenset[str]


def quantize_convolutions(
    model: onnx.ModelProto,
    placement: Placement,
    scales: Mapping[str, Quantization],
    pixels: Tensor,
    largest: int,
    progress: Progress,
) -> dict[str, QuantizedConvolution]:
    """Quantize each convolution for what the quantized graph gives it.

    Args:
        model: The FP32 backbone, rewritten and with aligned channels.
        placement: What is quantized.
        scales: How, by scale owner.
        pixels: What the first convolution reads, ``float32 [M, 3, H, W]``.
        largest: Largest quantized weight, such as 127.
        progress: Counts convolutions.

    Returns:
        The convolutions by output.
    """
    exact = walk.constants(model)
    quantized = dict(exact)
    quantization = {tensor: scales[owner] for tensor, owner in placement.scale_owner.items()}

    def in_8_bits(name: str, output: Tensor) -> Tensor:
        return _rounded(output, quantization[name]) if name in quantization else output

    stored = {NORMALIZED: Pair(pixels, in_8_bits(NORMALIZED, pixels))}
    by_output: dict[str, QuantizedConvolution] = {}
    steps = _steps(walk.backbone_nodes(model), placement)
    for done, step in enumerate(steps, 1):
        first = step.nodes[0]
        if _is_in_8_bits(first, placement):
            weights, offset = first.input[1:]
            reads = quantization[first.input[0]]
            made = quantize_convolution(first, exact[weights], exact[offset], stored[first.input[0]], reads, largest)
            quantized[weights], quantized[offset] = (torch.from_numpy(values) for values in (made.real, made.bias))
            by_output[first.output[0]] = made
        stored = _run(step, stored, exact, quantized, in_8_bits)
        progress(done, len(steps))
    return by_output


def _steps(nodes: Sequence[onnx.NodeProto], placement: Placement) -> list[Step]:
    """Divide the backbone's nodes."""
    parts: list[list[onnx.NodeProto]] = []
    for node in nodes:
        if not parts or _is_in_8_bits(node, placement):
            parts.append([])
        parts[-1].append(node)
    steps: list[Step] = []
    read_later: frozenset[str] = frozenset()
    for part in reversed(parts):
        steps.append(Step(part, read_later))
        read_later |= {name for node in part for name in node.input}
    return steps[::-1]


def _run(
    step: Step,
    stored: Mapping[str, Pair],
    exact: Mapping[str, Tensor],
    quantized: Mapping[str, Tensor],
    in_8_bits: Callable[[str, Tensor], Tensor],
) -> dict[str, Pair]:
    """Run a step's nodes on both sides.

    Args:
        step: The nodes.
        stored: The tensors so far.
        exact: The FP32 graph's constants.
        quantized: The quantized graph's.
        in_8_bits: Quantizes an output of this name, where the quantized graph does.

    Returns:
        The tensors that later steps read.
    """
    read = {name for node in step.nodes for name in node.input} & stored.keys()
    left = {name: pair for name, pair in stored.items() if name in step.kept}
    made = step.kept & {node.output[0] for node in step.nodes}
    if not made:
        return left
    count = len(next(iter(stored.values())).exact)
    for start in range(0, count, walk.TOGETHER):
        some = slice(start, start + walk.TOGETHER)
        sides = {name: stored[name].exact[some] for name in read}, {name: stored[name].quantized[some] for name in read}
        walk.run_nodes(step.nodes, sides[0], exact, kept=step.kept)
        walk.run_nodes(step.nodes, sides[1], quantized, in_8_bits, step.kept)
        for name in made:
            both = sides[0][name], sides[1][name]
            if name not in left:
                left[name] = Pair(*(torch.empty(count, *side.shape[1:]) for side in both))
            left[name].exact[some], left[name].quantized[some] = both
    return left


def _is_in_8_bits(node: onnx.NodeProto, placement: Placement) -> bool:
    """Whether a node is a convolution whose weights are quantized."""
    reads_8_bits = node.op_type == "Conv" and node.input[0] in placement.scale_owner
    return reads_8_bits and node.name not in placement.float_layers and not is_output_rescale(node)


def _rounded(values: Tensor, quantization: Quantization) -> Tensor:
    """Values after they were quantized and made real again."""
    low, high = quantization.ends
    steps = (values.clamp(low, high) / quantization.scale).round_()
    return steps.mul_(quantization.scale)
