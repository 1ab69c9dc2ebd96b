"""Quantize one convolution: weights adapted to its quantized inputs and rounded (`gptq`), and its bias corrected.

The bias makes the mean of the output FP32's (Nagel et al. 2019, arXiv 1906.04721). A convolution is linear: the mean of
its outputs is the mean of its output for the mean image, which takes one image's time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor

from ...graph.facts import attribute
from . import gptq, torch_ops
from .qdq import QuantizedConvolution
from .scales import Quantization
from .walk import MANY_PATCHES

_LARGEST_BIAS = 2**30  # in multiples of its scale, which are an int32
_PATCHES_PER_WEIGHT = 2, 128
"""Patches of its input that a convolution is quantized for, for each weight of an output channel: the fewest, and the
most, but for these not more than `walk.MANY_PATCHES` in all."""


@dataclass(frozen=True)
class Pair:
    """Something in FP32, and as the quantized graph has it, both ``float32``."""

    exact: Tensor
    quantized: Tensor

    @property
    def mean(self) -> Pair:
        """The mean image, ``[1, C, h, w]``, of ``[M, C, h, w]``."""
        return Pair(self.exact.mean(0, keepdim=True), self.quantized.mean(0, keepdim=True))


def quantize_convolution(
    node: onnx.NodeProto, weights: Tensor, offset: Tensor, inputs: Pair, reads: Quantization, largest: int
) -> QuantizedConvolution:
    """Quantize a convolution's weights and correct its bias.

    Args:
        node: The convolution.
        weights: ``float32 [O, I, kH, kW]``.
        offset: Its bias, ``float32 [O]``.
        inputs: What it reads, ``[M, C, h, w]``.
        reads: How that is quantized.
        largest: Largest quantized weight, such as 127.
    """
    multiples, scale = _quantize_weights(node, weights, inputs, largest)
    mean = inputs.mean
    wanted = torch_ops.run(node, [mean.exact, weights, offset]).mean((0, 2, 3))
    given = torch_ops.run(node, [mean.quantized, multiples * scale[:, None, None, None]]).mean((0, 2, 3))
    bias = wanted - given
    beyond = bias.abs() > _LARGEST_BIAS * reads.scale * scale  # of these channels only a bias is left
    multiples[beyond] = 0
    bias = torch.where(beyond, wanted, bias)
    scale = torch.where(beyond, bias.abs() / (_LARGEST_BIAS * reads.scale), scale)
    bias = (bias / (reads.scale * scale)).round() * reads.scale * scale
    return QuantizedConvolution(multiples.numpy().astype(np.int8), scale.numpy(), bias.numpy())


def _quantize_weights(node: onnx.NodeProto, weights: Tensor, inputs: Pair, largest: int) -> tuple[Tensor, Tensor]:
    """A convolution's weights as multiples ``float32 [O, I, kH, kW]`` of scales ``float32 [O]``."""
    groups = attribute(node, "group", 1)
    last = weights.permute(0, 2, 3, 1)  # in the order of `_patches`
    by_group = last.reshape(groups, len(weights) // groups, -1)
    patches = _patches(inputs, weights.shape[2:], node)
    moments = gptq.second_moments(patches.quantized)
    by_group = gptq.adapt_weights(by_group, patches.exact, patches.quantized, moments)
    scale = gptq.weight_scales(by_group.flatten(0, 1), largest)
    multiples = gptq.quantize_weights(by_group, moments, scale.reshape(groups, -1), largest)
    return multiples.reshape(last.shape).permute(0, 3, 1, 2).contiguous(), scale


def _patches(inputs: Pair, kernel: torch.Size, node: onnx.NodeProto) -> Pair:
    """A sample of what a convolution reads for one output value each, ``float32 [G, S, kH * kW * I]``."""
    images, channels = inputs.exact.shape[:2]
    groups, strides = attribute(node, "group", 1), attribute(node, "strides", (1, 1))
    weights = channels // groups * kernel.numel()
    fewest, most = (count * weights for count in _PATCHES_PER_WEIGHT)
    of_image = -(-max(fewest, min(most, MANY_PATCHES)) // images)
    random = torch.Generator().manual_seed(0)
    sides: tuple[list[Tensor], list[Tensor]] = [], []
    for both in zip(inputs.exact, inputs.quantized, strict=True):
        # With the channels last, so that they are copied together.
        maps = [torch_ops.padded(of_side, node).permute(1, 2, 0).contiguous() for of_side in both]
        rows, columns = ((maps[0].shape[k] - kernel[k]) // strides[k] + 1 for k in range(2))
        chosen = torch.randperm(rows * columns, generator=random)[:of_image, None, None]
        y = chosen // columns * strides[0] + torch.arange(kernel[0])[:, None]
        x = chosen % columns * strides[1] + torch.arange(kernel[1])
        places = (y * maps[0].shape[1] + x).flatten()
        for side, of_side in zip(sides, maps, strict=True):
            side.append(
                of_side.flatten(0, 1).index_select(0, places).reshape(len(chosen), -1, groups, channels // groups)
            )
    return Pair(*(torch.cat(side).permute(2, 0, 1, 3).flatten(2) for side in sides))
