"""Which convolutions lose most when they are rounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from . import layerwise

IMAGES = 8
"""Images that it is measured on."""


def worst_first(
    model: onnx.ModelProto,
    images: np.ndarray,
    options: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Convolutions by how much the features change when they alone are rounded.

    Args:
        model: The FP32 backbone.
        images: ``uint8 [M, H, W, 3]``.
        options: Of `layerwise.quantize`.
        progress: Called with (done, total).

    Returns:
        Names, the most sensitive first.
    """
    names = layerwise.convolutions(model)
    wanted = _features(model, images)
    scale = wanted.std(0) + 1e-6 * np.abs(wanted).max()
    change = {}
    for done, name in enumerate(names):
        others = [other for other in names if other != name]
        given = _features(layerwise.quantize(model, images, **{**options, "floating": others}), images)
        change[name] = float((((given - wanted) / scale) ** 2).mean())
        progress(done + 1, len(names))
    return sorted(names, key=lambda name: -change[name])


def _features(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[np.newaxis]})[0] for image in images])
