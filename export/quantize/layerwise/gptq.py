"""Fit a convolution's weights to rounded inputs and round them so that its output changes least on real ones.

GPTQ (Frantar et al. 2022, arXiv 2210.17323): column by column, the error of each rounding is made good by the columns
that are still to come, in the metric of the inputs' second moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SHRINK = torch.linspace(0.75, 1.0, 11)  # shares of the largest weight that are tried as the largest step
_DAMPING = 0.01  # of the mean second moment, on the diagonal
_RIDGE = 0.1  # likewise
_BLOCK = 128


def steps(weights: Tensor, most: int) -> Tensor:
    """The step of each row with the least squared rounding error.

    Args:
        weights: ``float32 [O, D]``.
        most: Largest multiple of a step, such as 127.

    Returns:
        ``float32 [O]``; 1 for a row of zeros.
    """
    widest = weights.abs().amax(1)
    widest[widest == 0] = most
    tried = widest[None] * _SHRINK[:, None] / most
    rounded = (weights[None] / tried[..., None]).round().clamp(-most, most) * tried[..., None]
    best = ((rounded - weights[None]) ** 2).sum(-1).argmin(0)
    chosen: Tensor = tried[best, torch.arange(len(weights))]
    return chosen


def adapted(weights: Tensor, exact: Tensor, rounded: Tensor) -> Tensor:
    """Weights that make of the rounded inputs what `weights` make of the exact ones, by ridge regression.

    Args:
        weights: ``float32 [G, R, D]``.
        exact: Samples of the inputs in FP32, ``float32 [S, G, D]``.
        rounded: The same samples as the quantized graph has them.
    """
    moments = torch.einsum("sgd,sge->gde", rounded, rounded)
    diagonal = moments.diagonal(dim1=1, dim2=2)
    diagonal += _RIDGE * diagonal.mean(1, keepdim=True) + 1e-8
    lost = weights @ torch.einsum("sgd,sge->gde", exact - rounded, rounded)
    return weights + torch.linalg.solve(moments, lost.mT).mT


def round_weights(weights: Tensor, inputs: Tensor, step: Tensor, most: int) -> Tensor:
    """Round, column by column.

    Args:
        weights: ``float32 [G, R, D]``: groups, rows of a group, inputs of a row.
        inputs: Samples of what the convolution reads, ``float32 [S, G, D]``.
        step: ``float32 [G, R]``.
        most: Largest multiple of a step.

    Returns:
        Multiples of the step, ``float32 [G, R, D]``, whole numbers.
    """
    moments = torch.einsum("sgd,sge->gde", inputs, inputs)
    diagonal = moments.diagonal(dim1=1, dim2=2)
    diagonal += _DAMPING * diagonal.mean(1, keepdim=True) + 1e-8
    order = diagonal.argsort(dim=1, descending=True)  # the inputs that matter most are rounded first
    weights = weights.gather(2, order[:, None].expand_as(weights))
    moments = moments.gather(1, order[..., None].expand_as(moments)).gather(2, order[:, None].expand_as(moments))
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(moments)), upper=True)

    left, found = weights.clone(), torch.empty_like(weights)
    width = weights.shape[2]
    for start in range(0, width, _BLOCK):
        end = min(start + _BLOCK, width)
        errors = torch.empty_like(left[..., start:end])
        for i in range(start, end):
            found[..., i] = (left[..., i] / step).round().clamp(-most, most)
            error = (left[..., i] - found[..., i] * step) / factor[:, i, i, None]
            left[..., i:end] -= error[..., None] * factor[:, None, i, i:end]
            errors[..., i - start] = error
        left[..., end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(found).scatter_(2, order[:, None].expand_as(found), found)
