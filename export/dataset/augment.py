"""Changes that a microscope makes to a field: a turned slide, a dimmed lamp, a shifted white balance, lost focus.

A backbone's early layers feel them, so heads are trained on changed copies of every training image beside the image
itself, and every tap is judged by what is left of its accuracy under `BATTERY`. Changes are made to the decoded pixels,
at the size of the graph's input.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .changes import Change

GAIN = 0.12
"""Copies: each channel's gain is within this of 1."""

LIGHT = 0.18
"""Copies: brightness is within this of 1."""

BLUR = (0.5, 2.2)
"""Copies: standard deviation of the Gaussian that blurs half of them, in pixels."""


@dataclass(frozen=True)
class Copy:
    """A changed copy for training: each image gets its own change, drawn from its digest.

    Attributes:
        number: Which of an image's copies.
        seed: Of the drawing.
    """

    number: int
    seed: int

    @property
    def name(self) -> str:
        ranges = f"gain {GAIN}, light {LIGHT}, blur {BLUR}"
        return f"copy {self.number} of seed {self.seed}, {ranges}"

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray:
        """Change ``uint8 [H, W, 3]`` of the file with this SHA-256."""
        return self._draw(digest)(pixels, digest)

    def _draw(self, digest: str) -> Change:
        rng = np.random.default_rng([self.seed, self.number, zlib.crc32(digest.encode())])
        turns, mirrored, blurred = int(rng.integers(4)), bool(rng.integers(2)), bool(rng.integers(2))
        gains = rng.uniform(1 - GAIN, 1 + GAIN, 3) * rng.uniform(1 - LIGHT, 1 + LIGHT)
        blur = float(rng.uniform(*BLUR)) if blurred else 0.0
        return Change(self.name, turns, mirrored, gains=tuple(gains), blur=blur)


BATTERY: tuple[Change, ...] = (
    Change("quarter turn", turns=1),
    Change("half turn", turns=2),
    Change("mirrored", mirrored=True),
    Change("red +10 %", gains=(1.1, 1.0, 1.0)),
    Change("red -10 %", gains=(0.9, 1.0, 1.0)),
    Change("green +10 %", gains=(1.0, 1.1, 1.0)),
    Change("green -10 %", gains=(1.0, 0.9, 1.0)),
    Change("blue +10 %", gains=(1.0, 1.0, 1.1)),
    Change("blue -10 %", gains=(1.0, 1.0, 0.9)),
    Change("15 % darker", gains=(0.85, 0.85, 0.85)),
    Change("15 % brighter", gains=(1.15, 1.15, 1.15)),
    Change("blur of 2 px", blur=2.0),
)
"""What every tap is tried with. The copies for training are drawn around it, never taken from it."""


def copies(count: int, seed: int) -> Sequence[Copy]:
    """The changes that make `count` copies of every training image."""
    return [Copy(number, seed) for number in range(count)]


def plan(count: int, balance: bool, labels: np.ndarray) -> tuple[int, np.ndarray | None]:
    """How many copies are made, and of which images.

    Args:
        count: Copies of every image, where `balance` is false.
        balance: Copies of the smallest class's images alone, as many as bring it up to the largest class.
        labels: ``int64 [N]``.

    Returns:
        The number of copies, and ``bool [N]`` the images whose copies are trained on, or None for all.
    """
    if not balance:
        return count, None
    sizes = np.bincount(labels)
    return round(sizes.max() / sizes.min()) - 1, labels == sizes.argmin()
