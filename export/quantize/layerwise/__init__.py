"""Our own post-training quantization: layer by layer, each fitted to what the quantized layers before it really give.

The channels' ranges are aligned first (`channel_alignment`), and each tensor's scale is fitted (`scales`). Then the
calibration images go through the FP32 graph and the quantized graph side by side (`steps`). Each convolution's weights
are adapted to its quantized inputs and quantized, its bias is corrected (`convolution`), and its output is quantized.
The result has the form that both engines run in 8 bits throughout (`placement`, `qdq`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

import numpy as np
import onnx
import torch

from edge_all.progress import Progress, ignore

from ...graph.names import NORMALIZED
from . import input_folding, qdq, walk
from .channel_alignment import Alignment, align_channels
from .placement import Placement, place
from .rewrite import rewrite
from .scales import Quantization, fit_quantization, quantization_between
from .steps import quantize_convolutions

_POWER = 2.0  # of the error that activation scales are fitted to: the mean square


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
        images: Calibration images ``uint8 [M, H, W, 3]``; no more of them are used than are needed and fit into memory.
        progress: Counts the backbone's convolutions.
        weight_bits: 8, or 7: x86 CPUs without VNNI add up products of 8 bits in 16 bits, which saturates.
        signed: Symmetric int8 activations, as TensorRT wants them, instead of uint8.
        floating: Names of convolutions that stay float32.
    """
    model = rewrite(model)
    placement = place(model, floating)
    if NORMALIZED in placement.scale_owner and not signed:
        model = input_folding.normalise_alike(model)
    with torch.inference_mode():
        pixels = walk.preprocessed(model, walk.enough(model, images))
        measured = walk.measure(model, pixels, placement.scale_owner)
        alignment = align_channels(model, measured.spans, placement.scale_owner, signed)
        scales = _fit_scales(alignment, placement, measured, signed)
        largest = 2 ** (weight_bits - 1) - 1
        in_8_bits = quantize_convolutions(alignment.model, placement, scales, pixels, largest, progress)
    return input_folding.fold_normalisation(qdq.write(alignment.model, placement, scales, in_8_bits))


def convolutions(model: onnx.ModelProto) -> list[str]:
    """Names of the backbone's convolutions, in order."""
    return [node.name for node in model.graph.node if node.op_type == "Conv"]


def _fit_scales(
    alignment: Alignment, placement: Placement, measured: walk.Statistics, signed: bool
) -> Mapping[str, Quantization]:
    """How tensors are quantized, by scale owner."""
    by_owner: dict[str, list[np.ndarray]] = defaultdict(list)
    for tensor, owner in placement.scale_owner.items():
        by_owner[owner].append(alignment.sample(tensor, measured))
    scales = {}
    for owner, values in by_owner.items():
        if owner == NORMALIZED:  # every pixel value is possible, whatever the calibration images hold
            factor, offset = input_folding.normalisation(alignment.model)
            scales[owner] = quantization_between(float(offset.min()), float((255 * factor + offset).max()), signed)
        else:
            scales[owner] = fit_quantization(np.concatenate(values), _POWER, signed)
    return scales
