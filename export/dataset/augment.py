"""Changes that a microscope makes to a field: a turned slide, another lamp, stain, focus, scale or camera.

A backbone's early layers feel them, so heads are trained on changed copies of every training image beside the image
itself, and every tap is judged by what is left of its accuracy under `BATTERY`. Changes are made to the decoded pixels,
at the size of the graph's input.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .changes import Change


@dataclass(frozen=True)
class Range:
    """How far one thing is changed, and in what share of the copies.

    Attributes:
        low: The least.
        high: The most.
        share: The others are left as they are.
        factor: It is a factor: the drawing is even in its logarithm, and 1 is no change; else 0 is.
    """

    low: float
    high: float
    share: float = 1.0
    factor: bool = False

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if rng.uniform() >= self.share:
            return 1.0 if self.factor else 0.0
        if self.factor:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))


RANGES: Mapping[str, Range] = {
    "gain": Range(-0.12, 0.12),  # of each channel by itself
    "light": Range(-0.18, 0.18),
    "balance": Range(-0.26, 0.26, 0.45),  # given to red and taken from blue
    "uneven": Range(0.05, 0.35, 0.25),
    "gamma": Range(0.6, 2.0, 0.45, factor=True),
    "haematoxylin": Range(0.6, 1.5, 0.4, factor=True),
    "eosin": Range(0.5, 1.5, 0.4, factor=True),
    "blur": Range(0.5, 4.5, 0.5),  # pixels of a field 224 wide
    "zoom": Range(0.68, 1.6, 0.45, factor=True),
    "noise": Range(2.0, 14.0, 0.3),  # grey levels
    "jpeg": Range(25.0, 90.0, 0.2),  # quality
    "dirt": Range(1.0, 8.0, 0.2),  # specks
}
"""What copies are drawn from."""


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
        ranges = ", ".join(f"{name} {r.low} to {r.high} in {r.share}" for name, r in RANGES.items())
        return f"copy {self.number} of seed {self.seed}, {ranges}"

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray:
        """Change ``uint8 [H, W, 3]`` of the file with this SHA-256."""
        return self.change(digest)(pixels, digest)

    def change(self, digest: str) -> Change:
        """What is done to the file with this SHA-256."""
        rng = np.random.default_rng([self.seed, self.number, zlib.crc32(digest.encode())])
        turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
        gains = 1 + np.array([RANGES["gain"].draw(rng) for _ in range(3)])
        drawn = {name: limits.draw(rng) for name, limits in RANGES.items() if name != "gain"}
        gains *= (1 + drawn["light"]) * np.array([1 + drawn["balance"], 1, 1 - drawn["balance"]])
        return Change(
            self.name,
            turns,
            mirrored,
            zoom=drawn["zoom"],
            stain=(drawn["haematoxylin"], drawn["eosin"]),
            gains=(float(gains[0]), float(gains[1]), float(gains[2])),
            uneven=drawn["uneven"],
            blur=drawn["blur"],
            dirt=round(drawn["dirt"]),
            noise=drawn["noise"],
            gamma=drawn["gamma"],
            jpeg=round(drawn["jpeg"]),
        )


BATTERY: tuple[Change, ...] = (
    Change("quarter turn", turns=1),
    Change("mirrored", mirrored=True),
    Change("zoom 0.75", zoom=0.75),
    Change("zoom 1.4", zoom=1.4),
    Change("haematoxylin x1.4, eosin x0.6", stain=(1.4, 0.6)),
    Change("haematoxylin x0.7, eosin x1.3", stain=(0.7, 1.3)),
    Change("blur of 2 px", blur=2.0),
    Change("blur of 3 px", blur=3.0),
    Change("red +20 %, blue -20 %", gains=(1.2, 1.0, 0.8)),
    Change("red -20 %, blue +20 %", gains=(0.8, 1.0, 1.2)),
    Change("25 % darker", gains=(0.75, 0.75, 0.75)),
    Change("20 % brighter", gains=(1.2, 1.2, 1.2)),
    Change("uneven light, 30 %", uneven=0.3),
    Change("5 specks of dirt", dirt=5),
    Change("noise of 8 levels", noise=8.0),
    Change("gamma 0.7", gamma=0.7),
    Change("gamma 1.6", gamma=1.6),
    Change("JPEG quality 40", jpeg=40),
)
"""What every tap is tried with. The copies for training are drawn around it, never taken from it."""

HARDEST = tuple(c for c in BATTERY if c.name in ("zoom 0.75", "zoom 1.4", "blur of 3 px", "20 % brighter"))
"""Those that cost nearly every tap of every backbone most."""


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
