"""Pictures that show none of the classes: noise, ramps, plain colours and patterns."""

from __future__ import annotations

import numpy as np
from PIL import Image

EACH = 6
"""Pictures of each kind."""


def pictures(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Draw them, ``uint8 [M, H, W, 3]``, the same for a seed.

    Args:
        size: Height and width, in pixels.
        seed: Of the drawing.
    """
    rng = np.random.default_rng([seed, 20])
    kinds = (_noise, _clouds, _ramp, _plain, _stripes)
    return np.stack([draw(size, rng) for draw in kinds for _ in range(EACH)])


def _noise(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (*size, 3), dtype=np.uint8)


def _clouds(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise without detail, in the colours of a smear."""
    coarse = rng.integers(120, 250, (int(rng.integers(2, 20)), int(rng.integers(2, 20)), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def _ramp(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    height, width = size
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.sin(angle) * np.linspace(-1, 1, height)[:, np.newaxis] + np.cos(angle) * np.linspace(-1, 1, width)
    return np.repeat((127.5 + 90 * slope).clip(0, 255).astype(np.uint8)[:, :, np.newaxis], 3, axis=2)


def _plain(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    return np.full((*size, 3), rng.integers(0, 256, 3), np.uint8)


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    period, colours = int(rng.integers(3, 30)), rng.integers(0, 256, (2, 3), dtype=np.uint8)
    stripes: np.ndarray = colours[np.add.outer(np.arange(size[0]), np.arange(size[1])) // period % 2]
    return stripes
