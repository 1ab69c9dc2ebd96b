"""Which convolutions lose most when they are quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from edge_all.progress import Progress, ignore

from ..graph.names import IMAGE
from . import layerwise

IMAGES = 8
"""How many images this is measured on."""


def worst_first(
    model: onnx.ModelProto, images: np.ndarray, options: Mapping[str, Any], progress: Progress = ignore
) -> list[str]:
    """Sort the convolutions by how much the features change when each is quantized alone.

    Args:
        model: The FP32 backbone.
        images: ``uint8 [M, H, W, 3]``.
        options: Keyword arguments of `layerwise.quantize`.
        progress: Counts convolutions.

    Returns:
        Their names, the most sensitive first.
    """
    names = layerwise.convolutions(model)
    exact = _features(model, images)
    deviation = exact.std(0) + 1e-6 * np.abs(exact).max()
    change = {}
    for done, name in enumerate(names):
        others = [other for other in names if other != name]
        quantized = layerwise.quantize(model, images, **{**options, "floating": others})
        change[name] = float((((_features(quantized, images) - exact) / deviation) ** 2).mean())
        progress(done + 1, len(names))
    return sorted(names, key=lambda name: -change[name])


def _features(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {IMAGE: image[np.newaxis]})[0] for image in images])
