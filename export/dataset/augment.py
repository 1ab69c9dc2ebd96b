"""Changes that a microscope makes to a field: a turned slide, a dimmed lamp, a shifted white balance, lost focus.

A backbone's early layers feel them, so heads are trained on changed copies of every training image beside the image
itself, and every tap is judged by what is left of its accuracy under `BATTERY`. Changes are made to the decoded pixels,
at the size of the graph's input.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

GAIN = 0.12
"""Copies: each channel's gain is within this of 1."""

LIGHT = 0.18
"""Copies: brightness is within this of 1."""

BLUR = (0.5, 2.2)
"""Copies: standard deviation of the Gaussian that blurs half of them, in pixels."""


@dataclass(frozen=True)
class Change:
    """A change of an image, the same for every image.

    Attributes:
        name: For tables.
        turns: Quarter turns, counter-clockwise.
        mirrored: Left and right exchanged.
        gains: Factor of red, green and blue; what passes 255 is cut.
        gamma: Exponent of the brightness as a share of full; above 1 is darker.
        stain: Factors of the haematoxylin and of the eosin that the colours are taken to consist of.
        blur: Standard deviation of the Gaussian, in pixels; 0 is none.
        angle: Degrees, counter-clockwise, about the middle; what comes in from outside is the mirror image.
        zoom: Magnification about the middle, likewise.
        jpeg: Quality that it is compressed with, 1 to 95; 0 is not at all.
    """

    name: str
    turns: int = 0
    mirrored: bool = False
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    blur: float = 0.0
    angle: float = 0.0
    zoom: float = 1.0
    jpeg: int = 0
    gamma: float = 1.0
    stain: tuple[float, float] = (1.0, 1.0)

    def __call__(self, pixels: np.ndarray, digest: str) -> np.ndarray:
        """Change ``uint8 [H, W, 3]``; the result has the same shape."""
        height, width = pixels.shape[:2]
        turned = np.rot90(_turned(pixels, self.angle, self.zoom), self.turns)
        if self.mirrored:
            turned = turned[:, ::-1]
        if self.gains != (1.0, 1.0, 1.0):
            turned = np.clip(np.rint(turned * np.array(self.gains)), 0, 255).astype(np.uint8)
        if self.gamma != 1:
            turned = np.rint(255 * (np.arange(256) / 255) ** self.gamma).astype(np.uint8)[turned]
        if self.stain != (1.0, 1.0):
            turned = _stained(turned, *self.stain)
        if not self.blur and not self.jpeg and turned.shape == pixels.shape:
            return np.ascontiguousarray(turned)
        picture = Image.fromarray(np.ascontiguousarray(turned))
        if self.blur:
            picture = picture.filter(ImageFilter.GaussianBlur(self.blur))
        if self.jpeg:
            encoded = io.BytesIO()
            picture.save(encoded, "JPEG", quality=self.jpeg)
            picture = Image.open(encoded)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorption of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001, as in scikit-image)."""


def _stained(pixels: np.ndarray, haematoxylin: float, eosin: float) -> np.ndarray:
    """With more or less of two stains: their densities in optical density are multiplied by these factors."""
    light = np.maximum(np.arange(256), 1e-3) / 255
    densities = np.maximum(-np.log(light)[pixels] @ np.linalg.inv(_STAINS), 0) * (haematoxylin, eosin, 1.0)
    return np.asarray(np.clip(np.rint(255 * np.exp(-densities @ _STAINS)), 0, 255), np.uint8)


def _turned(pixels: np.ndarray, angle: float, zoom: float) -> np.ndarray:
    """About the middle, at the same size, mirrored at the edges."""
    if not angle and zoom == 1:
        return pixels
    height, width = pixels.shape[:2]
    margin = max(height, width)
    around = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "symmetric"))
    cos, sin = np.cos(np.deg2rad(angle)) / zoom, np.sin(np.deg2rad(angle)) / zoom
    x, y = (width - 1) / 2, (height - 1) / 2  # pixel centres of the result, and of the picture with its margin
    rows = (cos, -sin, x + margin + 0.5 - cos * (x + 0.5) + sin * (y + 0.5)), (
        sin, cos, y + margin + 0.5 - sin * (x + 0.5) - cos * (y + 0.5)
    )  # fmt: skip
    kind, how = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(around.transform((width, height), kind, (*rows[0], *rows[1]), how))


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
        return Change(self.name, turns, mirrored, tuple(gains), float(rng.uniform(*BLUR)) if blurred else 0.0)


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
