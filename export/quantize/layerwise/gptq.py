"""Adapt a convolution's weights to quantized inputs, and quantize them so that its output on real inputs changes least.

GPTQ (Frantar et al. 2022, arXiv 2210.17323): column by column, the rounding error of each column is made up for by
those that follow, measured with the second moments of the inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SHARES = torch.linspace(0.75, 1.0, 11)  # of the largest weight, tried as the end of the range
_DAMPING = 0.01  # of the mean second moment, added to the diagonal
_RIDGE = 0.1  # likewise, for the regression
_BLOCK = 128


def weight_scales(weights: Tensor, largest: int) -> Tensor:
    """The scale of each row with the least squared rounding error.

    Args:
        weights: ``float32 [O, D]``.
        largest: Largest quantized weight, such as 127.

    Returns:
        ``float32 [O]``; 1 for a row of zeros.
    """
    widest = weights.abs().amax(1)
    widest[widest == 0] = largest
    scales = widest[None] * _SHARES[:, None] / largest
    rounded = (weights[None] / scales[..., None]).round().clamp(-largest, largest) * scales[..., None]
    least = ((rounded - weights[None]) ** 2).sum(-1).argmin(0)
    best: Tensor = scales[least, torch.arange(len(weights))]
    return best


def second_moments(inputs: Tensor) -> Tensor:
    """Summed over samples.

    Args:
        inputs: Samples of what a convolution reads, ``float32 [G, S, D]``.

    Returns:
        ``float32 [G, D, D]``.
    """
    return inputs.mT @ inputs


def adapt_weights(weights: Tensor, exact: Tensor, quantized: Tensor, moments: Tensor) -> Tensor:
    """Weights that make of the quantized inputs what `weights` make of the exact ones, by ridge regression.

    Args:
        weights: ``float32 [G, R, D]``: groups, rows of a group, inputs of a row.
        exact: Samples of the inputs in FP32, ``float32 [G, S, D]``.
        quantized: The same samples as the quantized graph has them.
        moments: Second moments of these.

    Returns:
        ``float32 [G, R, D]``.
    """
    lost = exact - quantized
    rows, width = weights.shape[1:]
    # The same product, in the order that takes less.
    missing = (weights @ lost.mT) @ quantized if rows < width else weights @ (lost.mT @ quantized)
    adapted: Tensor = weights + torch.linalg.solve(_damped(moments, _RIDGE), missing.mT).mT
    return adapted


def quantize_weights(weights: Tensor, moments: Tensor, scale: Tensor, largest: int) -> Tensor:
    """Quantize weights, column by column.

    Args:
        weights: ``float32 [G, R, D]``: groups, rows of a group, inputs of a row.
        moments: Second moments of what the convolution reads, ``float32 [G, D, D]``.
        scale: ``float32 [G, R]``.
        largest: Largest quantized weight.

    Returns:
        Whole numbers as ``float32 [G, R, D]``; times the scale they are near the weights.
    """
    moments = _damped(moments, _DAMPING)
    order = moments.diagonal(dim1=1, dim2=2).argsort(
        dim=1, descending=True
    )  # the inputs that matter most are quantized first
    weights = weights.gather(2, order[:, None].expand_as(weights))
    moments = moments.gather(1, order[..., None].expand_as(moments)).gather(2, order[:, None].expand_as(moments))
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)

    left, quantized = weights.clone(), torch.empty_like(weights)
    width = weights.shape[2]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = torch.empty_like(left[..., start:end])
        for i in range(start, end):
            quantized[..., i] = (left[..., i] / scale).round().clamp(-largest, largest)
            error = (left[..., i] - quantized[..., i] * scale) / factor[:, i, i, None]
            left[..., i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[..., i - start] = error
        left[..., end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(quantized).scatter_(2, order[:, None].expand_as(quantized), quantized)


def _damped(moments: Tensor, share: float) -> Tensor:
    """Moments with a share of the mean diagonal added to the diagonal."""
    damped = moments.clone()
    diagonal = damped.diagonal(dim1=1, dim2=2)
    diagonal += share * diagonal.mean(1, keepdim=True) + 1e-8
    return damped
