"""Our own post-training quantization: layer by layer, each fitted to what the quantized layers before it really give.

The channels' ranges are aligned first (`channel_alignment`), and each tensor's scale is fitted (`scales`). Then the
calibration images go through the FP32 graph and the quantized graph side by side. Each convolution's weights are
adapted to its quantized inputs and quantized (`gptq`), its bias is corrected so that the mean of its output is FP32's
(bias correction, Nagel et al. 2019, arXiv 1906.04721), and its output is quantized. The result has the form that both
engines run in 8 bits throughout (`placement`, `qdq`).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor

from edge_all.progress import Progress, ignore

from ...graph.facts import attribute
from ...graph.names import NORMALIZED, is_backbone
from . import gptq, input_folding, qdq, torch_ops, walk
from .channel_alignment import align_channels
from .placement import Placement, place
from .qdq import QuantizedConvolution
from .rewrite import is_output_rescale, rewrite
from .scales import Quantization, fit_quantization, quantization_between

_LARGEST_BIAS = 2**30  # in multiples of its scale, which are an int32
_POWER = 2.0  # of the error that activation scales are fitted to: the mean square
_PATCHES = 6_144  # inputs of a convolution that its weights are quantized for, at least


def quantize(
    model: onnx.ModelProto,
    images: np.ndarray,
    progress: Progress = ignore,
    *,
    weight_bits: int = 8,
    signed: bool = False,
    floating: Collection[str] = (),
) -> onnx.ModelProto:
    """See `edge_all.export.quantize.schemes.quantize`.

    Args:
        model: The FP32 backbone.
        images: Calibration images ``uint8 [M, H, W, 3]``; where they do not fit into memory, some of them are used.
        progress: Counts the backbone's nodes.
        weight_bits: 8, or 7: x86 CPUs without VNNI add up products of 8 bits in 16 bits, which saturates.
        signed: Symmetric int8 activations, as TensorRT wants them, instead of uint8.
        floating: Names of convolutions that stay float32.
    """
    model = rewrite(model)
    placement = place(model, floating)
    if NORMALIZED in placement.scale_owner and not signed:
        model = input_folding.normalise_alike(model)
    with torch.inference_mode():
        pixels = walk.preprocessed(model, walk.fitting_in_memory(model, images))
        model = align_channels(model, walk.spans(model, pixels), placement.scale_owner, signed)
        samples = walk.samples(model, placement, pixels)
        scales = _fit_scales(model, placement, samples, signed)
        start = Pair(pixels, _quantized(pixels, scales[NORMALIZED]) if NORMALIZED in scales else pixels)
        largest = 2 ** (weight_bits - 1) - 1
        convolutions_8_bit = _quantize_convolutions(model, placement, scales, start, largest, progress)
    return input_folding.fold_normalisation(qdq.write(model, placement, scales, convolutions_8_bit))


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the backbone's convolutions, in order."""
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _fit_scales(
    model: onnx.ModelProto, placement: Placement, samples: dict[str, np.ndarray], signed: bool
) -> dict[str, Quantization]:
    """How tensors are quantized, by scale owner."""
    by_owner: dict[str, list[np.ndarray]] = defaultdict(list)
    for tensor, owner in placement.scale_owner.items():
        by_owner[owner].append(samples[tensor])
    scales = {}
    for owner, values in by_owner.items():
        if owner == NORMALIZED:  # every pixel value is possible, whatever the calibration images hold
            factor, offset = input_folding.normalisation(model)
            scales[owner] = quantization_between(float(offset.min()), float((255 * factor + offset).max()), signed)
        else:
            scales[owner] = fit_quantization(np.concatenate(values), _POWER, signed)
    return scales


@dataclass(frozen=True)
class Pair:
    """A tensor in FP32, and as the quantized graph has it, both float32."""

    exact: Tensor
    quantized: Tensor


def _quantize_convolutions(
    model: onnx.ModelProto,
    placement: Placement,
    scales: dict[str, Quantization],
    start: Pair,
    largest: int,
    progress: Progress,
) -> dict[str, QuantizedConvolution]:
    """Walk through both graphs side by side and quantize each convolution.

    Args:
        model: The FP32 backbone, rewritten and with aligned channels.
        placement: What is quantized.
        scales: How, by scale owner.
        start: What the first convolution reads.
        largest: Largest quantized weight, such as 127.
        progress: Counts nodes.

    Returns:
        The convolutions by output.
    """
    by_output: dict[str, QuantizedConvolution] = {}
    count, visited = sum(map(is_backbone, model.graph.node)), itertools.count(1)

    def visit(node: onnx.NodeProto, inputs: list[Pair]) -> Pair:
        name = node.output[0]
        exact = torch_ops.run(node, [pair.exact for pair in inputs])
        if _in_8_bits(node, placement):
            reads = scales[placement.scale_owner[node.input[0]]]
            by_output[name], output = _quantize_convolution(node, inputs, exact, reads, largest)
        else:
            output = torch_ops.run(node, [pair.quantized for pair in inputs])
        if name in placement.scale_owner:
            output = _quantized(output, scales[placement.scale_owner[name]])
        progress(next(visited), count)
        return Pair(exact, output)

    walk.visit_nodes(model, start, visit, lambda value: Pair(value, value))
    return by_output


def _in_8_bits(node: onnx.NodeProto, placement: Placement) -> bool:
    """Whether a node is a convolution whose weights are quantized."""
    reads_8_bits = node.op_type == "Conv" and node.input[0] in placement.scale_owner
    return reads_8_bits and node.name not in placement.float_layers and not is_output_rescale(node)


def _quantized(values: Tensor, quantization: Quantization) -> Tensor:
    """Values after they were quantized and made real again."""
    return torch.fake_quantize_per_tensor_affine(
        values, quantization.scale, quantization.zero_point, *quantization.bounds
    )


def _quantize_convolution(
    node: onnx.NodeProto, inputs: list[Pair], exact: Tensor, reads: Quantization, largest: int
) -> tuple[QuantizedConvolution, Tensor]:
    """Quantize a convolution's weights and correct its bias.

    Args:
        node: The convolution.
        inputs: Its input and its constants.
        exact: Its output in FP32, ``float32 [M, O, h, w]``.
        reads: How its input is quantized.
        largest: Largest quantized weight.

    Returns:
        The convolution, and its output with quantized input, weights and bias.
    """
    weights, scale = _quantize_weights(node, inputs, largest)
    output = torch_ops.run(node, [inputs[0].quantized, weights * scale[:, None, None, None]])
    bias = (exact - output).mean((0, 2, 3))
    beyond = bias.abs() > _LARGEST_BIAS * reads.scale * scale  # of these channels only a bias is left
    scale = torch.where(beyond, bias.abs() / (_LARGEST_BIAS * reads.scale), scale)
    weights[beyond] = 0
    output[:, beyond] = 0
    bias = (bias / (reads.scale * scale)).round() * reads.scale * scale
    output += bias[:, None, None]
    return QuantizedConvolution(weights.numpy().astype(np.int8), scale.numpy(), bias.numpy()), output


def _quantize_weights(node: onnx.NodeProto, inputs: list[Pair], largest: int) -> tuple[Tensor, Tensor]:
    """A convolution's weights as multiples ``float32 [O, I, kH, kW]`` of scales ``float32 [O]``."""
    x, weights = inputs[0], inputs[1].exact
    groups = attribute(node, "group", 1)
    exact, quantized = (_patches(side, weights.shape[2:], node) for side in (x.exact, x.quantized))
    by_group = weights.reshape(groups, len(weights) // groups, -1)
    by_group = gptq.adapt_weights(by_group, exact, quantized)
    scale = gptq.weight_scales(by_group.flatten(0, 1), largest)
    multiples = gptq.quantize_weights(by_group, quantized, scale.reshape(groups, -1), largest)
    return multiples.reshape(weights.shape), scale


def _patches(x: Tensor, kernel: torch.Size, node: onnx.NodeProto) -> Tensor:
    """A sample of what a convolution reads for one output value each, ``float32 [S, G, D]``."""
    groups, strides = attribute(node, "group", 1), attribute(node, "strides", (1, 1))
    windows = torch_ops.padded(x, node).unfold(2, kernel[0], strides[0]).unfold(3, kernel[1], strides[1])
    images, channels, rows, columns = windows.shape[:4]
    total = images * rows * columns
    size = min(total, max(_PATCHES, 2 * channels // groups * kernel.numel()))
    sampled = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:size]
    n, i, j = sampled // (rows * columns), sampled // columns % rows, sampled % columns
    return windows[n, :, i, j].reshape(size, groups, -1)
