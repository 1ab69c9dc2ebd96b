"""Changed copies that heads are trained on, and the battery that they are judged by.

Microscopes turn, shift and squeeze colours, light, focus and scale, and a backbone's early layers feel all of it. So
heads are trained on changed copies of every training image beside the image itself, and every tap is judged by what is
left of its accuracy under `BATTERY`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .changes import Change


class Range(NamedTuple):
    """How a disturbance is drawn for a copy.

    Attributes:
        share: Of the copies that have it.
        low: The least.
        high: The most.
        none: What stands for its absence.
        logarithmic: Whether it is drawn evenly on a logarithmic scale.
    """

    share: float
    low: float
    high: float
    none: float = 0.0
    logarithmic: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """A value; the generator gives two numbers, whether or not it is there."""
        here, part = rng.random() < self.share, rng.random()
        if not here:
            return self.none
        if self.logarithmic:
            return float(self.low * (self.high / self.low) ** part)
        return float(self.low + (self.high - self.low) * part)


RANGES = {
    "red": Range(1, 0.88, 1.12),
    "green": Range(1, 0.88, 1.12),
    "blue": Range(1, 0.88, 1.12),
    "light": Range(1, 0.82, 1.18),
    "balance": Range(0.3, -0.22, 0.22),
    "gamma": Range(0.45, 0.6, 2.0, none=1, logarithmic=True),
    "haematoxylin": Range(0.4, 0.6, 1.5, none=1),
    "eosin": Range(0.4, 0.5, 1.5, none=1),
    "blur": Range(0.5, 0.5, 3.5),
    "zoom": Range(0.45, 0.68, 1.6, none=1, logarithmic=True),
    "jpeg": Range(0.2, 25, 90),
    "noise": Range(0.2, 2, 14),
    "uneven": Range(0.25, 0.05, 0.35),
}
"""What copies are drawn from: gains, and the attributes of `Change`. `balance` is given to red and taken from blue."""


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
        ranges = ", ".join(f"{name} {tuple(drawn)}" for name, drawn in RANGES.items())
        return f"copy {self.number} of seed {self.seed}, {ranges}"

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray:
        """Change ``uint8 [H, W, 3]`` of the file with this SHA-256."""
        return self._draw(digest)(pixels, digest)

    def _draw(self, digest: str) -> Change:
        rng = np.random.default_rng([self.seed, self.number, zlib.crc32(digest.encode())])
        drawn = {name: of.draw(rng) for name, of in RANGES.items()}
        red, blue = drawn["red"] * (1 + drawn["balance"]), drawn["blue"] * (1 - drawn["balance"])
        return Change(
            f"{self.number} {self.seed}",
            turns=int(rng.integers(4)),
            mirrored=bool(rng.integers(2)),
            zoom=drawn["zoom"],
            stain=(drawn["haematoxylin"], drawn["eosin"]),
            blur=drawn["blur"],
            gains=(red * drawn["light"], drawn["green"] * drawn["light"], blue * drawn["light"]),
            uneven=drawn["uneven"],
            noise=drawn["noise"],
            gamma=drawn["gamma"],
            jpeg=round(drawn["jpeg"]),
        )


BATTERY: tuple[Change, ...] = (
    Change("quarter turn", turns=1),
    Change("mirrored", mirrored=True),
    Change("zoom 0.75", zoom=0.75),
    Change("zoom 1.4", zoom=1.4),
    Change("stain: haematoxylin x1.4, eosin x0.6", stain=(1.4, 0.6)),
    Change("stain: haematoxylin x0.7, eosin x1.3", stain=(0.7, 1.3)),
    Change("blur of 2 px", blur=2.0),
    Change("blur of 3 px", blur=3.0),
    Change("red +20 %, blue -20 %", gains=(1.2, 1.0, 0.8)),
    Change("red -20 %, blue +20 %", gains=(0.8, 1.0, 1.2)),
    Change("25 % darker", gains=(0.75, 0.75, 0.75)),
    Change("20 % brighter", gains=(1.2, 1.2, 1.2)),
    Change("uneven light, 30 %", uneven=0.3),
    Change("noise of 8 levels", noise=8.0),
    Change("gamma 0.7", gamma=0.7),
    Change("gamma 1.6", gamma=1.6),
    Change("JPEG quality 40", jpeg=40),
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
