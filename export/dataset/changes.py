"""One change of a field, in the order of the light: the specimen, the lamp, the optics, the camera.

Changes are made to the decoded pixels, at the size of the graph's input. Their lengths are those of a field `WIDTH`
pixels wide, so that a change means the same at every size.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorption of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001, as in scikit-image)."""

_UNMIXING = np.linalg.inv(_STAINS).astype(np.float32)

_LEVELS = np.arange(256)

WIDTH = 224
"""Pixels across the field that lengths are given for."""


@dataclass(frozen=True)
class Change:
    """A change of an image, the same for every image but for the noise and the direction of the light.

    Attributes:
        name: For tables.
        turns: Quarter turns, counter-clockwise.
        mirrored: Left and right exchanged.
        angle: Degrees, counter-clockwise, about the middle; what comes in from outside is the mirror image.
        zoom: Magnification about the middle, likewise.
        stain: Factors of the optical densities of haematoxylin and eosin.
        gains: Factor of red, green and blue; what passes 255 is cut.
        uneven: Light on one side over that in the middle, less 1; it falls evenly across the field, from a side that
            is drawn for each image.
        blur: Standard deviation of the Gaussian, in pixels of a field `WIDTH` wide; 0 is none.
        dirt: How many soft dark specks lie on the optics, at places drawn for each image.
        noise: Standard deviation of the camera's noise, in grey levels of a pixel of a field `WIDTH` wide; a larger
            pixel has less, as a mean has.
        gamma: Exponent of the camera's curve; above 1 is darker.
        jpeg: Quality that it is compressed with, 1 to 95; 0 is not at all.
    """

    name: str
    turns: int = 0
    mirrored: bool = False
    angle: float = 0.0
    zoom: float = 1.0
    stain: tuple[float, float] = (1.0, 1.0)
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)
    uneven: float = 0.0
    blur: float = 0.0
    dirt: int = 0
    noise: float = 0.0
    gamma: float = 1.0
    jpeg: int = 0

    def __call__(self, pixels: Pixels, digest: str) -> Pixels:
        """Change ``uint8 [H, W, 3]`` of the file with this SHA-256; the result has the same shape."""
        rng = np.random.default_rng(zlib.crc32(f"{digest} {self.name}".encode()))
        changed = self._light(self._specimen(pixels), rng)
        if self.blur:
            radius = self.blur * changed.shape[1] / WIDTH
            changed = np.asarray(Image.fromarray(changed).filter(ImageFilter.GaussianBlur(radius)))
        if self.dirt:
            changed = _levels(changed * _specks(self.dirt, changed.shape[:2], rng)[:, :, np.newaxis])
        return self._camera(changed, rng)

    def _specimen(self, pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        turned = np.rot90(_turned(pixels, self.angle, self.zoom), self.turns)
        if self.mirrored:
            turned = turned[:, ::-1]
        turned = np.ascontiguousarray(turned)
        if turned.shape != pixels.shape:
            turned = np.asarray(Image.fromarray(turned).resize((width, height), Image.Resampling.BILINEAR))
        return turned if self.stain == (1, 1) else _stained(turned, *self.stain)

    def _light(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        if not self.uneven:
            return pixels if self.gains == (1, 1, 1) else _looked_up([_LEVELS * gain for gain in self.gains], pixels)
        height, width = pixels.shape[:2]
        side = rng.uniform(0, 2 * np.pi)
        slope = np.sin(side) * np.linspace(-1, 1, height)[:, np.newaxis] + np.cos(side) * np.linspace(-1, 1, width)
        share = (1 + self.uneven * slope)[:, :, np.newaxis] * np.array(self.gains)
        return _levels(pixels * share.astype(np.float32))

    def _camera(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        if self.noise:
            deviation = self.noise * min(1.0, pixels.shape[1] / WIDTH)
            pixels = _levels(pixels + np.float32(deviation) * rng.standard_normal(pixels.shape, np.float32))
        if self.gamma != 1:
            pixels = _levels(255 * (_LEVELS / 255) ** self.gamma)[pixels]
        if self.jpeg:
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "JPEG", quality=self.jpeg)
            pixels = np.asarray(Image.open(encoded))
        return pixels


def _levels(values: npt.NDArray[np.floating[Any]]) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _looked_up(curves: Sequence[npt.NDArray[np.floating[Any]]], pixels: Pixels) -> Pixels:
    """Each channel through its own curve, which has a value for each of the 256 levels."""
    table = np.concatenate([_levels(curve) for curve in curves])
    return np.asarray(Image.fromarray(pixels).point(table.tolist()))


def _stained(pixels: Pixels, haematoxylin: float, eosin: float) -> Pixels:
    """With more or less of two stains: their densities in optical density are multiplied by these factors."""
    optical = (-np.log(np.maximum(_LEVELS, 1e-3) / 255)).astype(np.float32)
    densities = np.maximum(optical[pixels] @ _UNMIXING, 0)
    stronger = (np.array((haematoxylin, eosin, 1.0))[:, np.newaxis] * _STAINS).astype(np.float32)
    return _levels(255 * np.exp(-densities @ stronger))


def _specks(count: int, size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The light that specks out of focus let pass, ``[H, W]``: each takes 15 to 50 %, over 1 to 4 % of the width."""
    height, width = size
    y, x = np.arange(height, dtype=np.float32)[:, np.newaxis], np.arange(width, dtype=np.float32)
    passed = np.ones(size, np.float32)
    for _ in range(count):
        row, column, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.01, 0.04) * width
        far = ((y - np.float32(row)) ** 2 + (x - np.float32(column)) ** 2) * np.float32(1 / radius**2)
        passed *= 1 - np.float32(rng.uniform(0.15, 0.5)) / (1 + far * far)
    return passed


def _turned(pixels: Pixels, angle: float, zoom: float) -> Pixels:
    """About the middle, at the same size, mirrored at the edges."""
    if not angle and zoom == 1:
        return pixels
    height, width = pixels.shape[:2]
    reach = (
        0.75 / zoom if angle else max(0.0, 1 / zoom - 1) / 2
    )  # how far outside it looks, as a share of the longer side
    margin = int(np.ceil(reach * max(height, width))) + 1
    around = Image.fromarray(np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), "symmetric"))
    cos, sin = np.cos(np.deg2rad(angle)) / zoom, np.sin(np.deg2rad(angle)) / zoom
    x, y = (width - 1) / 2, (height - 1) / 2  # pixel centres of the result, and of the picture with its margin
    rows = (cos, -sin, x + margin + 0.5 - cos * (x + 0.5) + sin * (y + 0.5)), (
        sin, cos, y + margin + 0.5 - sin * (x + 0.5) - cos * (y + 0.5)
    )  # fmt: skip
    kind, how = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(around.transform((width, height), kind, (*rows[0], *rows[1]), how))
