"""The inputs of a bundle's probe."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edge_all import image

from ..dataset import Dataset
from ..dataset.synthetic import CLASSES, draw_field

EACH_SIDE = 3
"""How many inputs are far from a decision boundary, and how many are near one."""

_LEVELS = np.uint8(8)
"""Drawn inputs have every eighth level of brightness only: their noise would not compress, and tests nothing."""

LEAST_MARGIN = 0.2
"""Smallest difference between the first and the second probability: below it rounding alone may change the label."""


def probe_inputs(
    data: Dataset, probabilities: np.ndarray, size: tuple[int, int], *, drawn: bool, seed: int
) -> np.ndarray:
    """Choose inputs far from and near to a decision boundary, or draw as many.

    Args:
        data: The training images.
        probabilities: The head's answers to them, ``[N, K]``.
        size: Height and width of the graph's input.
        drawn: Draw synthetic fields, so that no photograph travels with the bundle.
        seed: Of the drawing.

    Returns:
        ``uint8 [M, H, W, 3]``.
    """
    if drawn:
        rng = np.random.default_rng(seed)
        fields = [draw_field(i % len(CLASSES), rng) for i in range(2 * EACH_SIDE)]
        height, width = size
        return _LEVELS * (np.stack([np.asarray(Image.fromarray(f).resize((width, height))) for f in fields]) // _LEVELS)
    ordered = np.sort(probabilities, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    order = np.argsort(margin, kind="stable")
    order = order[margin[order] >= LEAST_MARGIN] if margin.max() >= LEAST_MARGIN else order
    chosen = dict.fromkeys([*order[:EACH_SIDE], *order[::-1][:EACH_SIDE]])
    return np.stack([image.decode(data.paths[i], size) for i in chosen])
