"""Which inputs go into a bundle's probe."""

from __future__ import annotations

import numpy as np
from PIL import Image

from edge_all import image

from ..dataset import Dataset
from ..dataset.synthetic import CLASSES, draw_field

EACH_SIDE = 4
"""Inputs far from a decision boundary, and as many near one."""

NEAREST = 0.2
"""Smallest lead of the first class over the second: nearer than that, rounding alone may flip the label."""


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
        return np.stack([np.asarray(Image.fromarray(f).resize((width, height))) for f in fields])
    top = np.sort(probabilities, axis=1)
    order = np.argsort(top[:, -1] - top[:, -2], kind="stable")
    order = order[(top[:, -1] - top[:, -2])[order] >= NEAREST] if (top[:, -1] - top[:, -2]).max() >= NEAREST else order
    chosen = dict.fromkeys([*order[:EACH_SIDE], *order[::-1][:EACH_SIDE]])
    return np.stack([image.decode(data.paths[i], size) for i in chosen])
