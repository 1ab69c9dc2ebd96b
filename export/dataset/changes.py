"""One change of a field, in the order of the light: the specimen, the lamp, the optics, the camera.

Changes are made to the decoded pixels, at the size of the graph's input.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Absorption of haematoxylin, eosin and DAB in red, green and blue (Ruifrok and Johnston 2001, as in scikit-image)."""


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
        blur: Standard deviation of the Gaussian, in pixels; 0 is none.
        noise: Standard deviation of the camera's noise, in grey levels.
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
    noise: float = 0.0
    gamma: float = 1.0
    jpeg: int = 0

    def __call__(self, pixels: Pixels, digest: str) -> Pixels:
        """Change ``uint8 [H, W, 3]`` of the file with this SHA-256; the result has the same shape."""
        rng = np.random.default_rng(zlib.crc32(f"{digest} {self.name}".encode()))
        changed = self._light(self._specimen(pixels), rng)
        if self.blur:
            changed = np.asarray(Image.fromarray(changed).filter(ImageFilter.GaussianBlur(self.blur)))
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
        if self.gains == (1, 1, 1) and not self.uneven:
            return pixels
        light = pixels * np.array(self.gains)
        if self.uneven:
            height, width = pixels.shape[:2]
            side = rng.uniform(0, 2 * np.pi)
            slope = np.sin(side) * np.linspace(-1, 1, height)[:, np.newaxis] + np.cos(side) * np.linspace(-1, 1, width)
            light *= (1 + self.uneven * slope)[:, :, np.newaxis]
        return _levels(light)

    def _camera(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        if self.noise:
            pixels = _levels(pixels + self.noise * rng.standard_normal(pixels.shape))
        if self.gamma != 1:
            pixels = _levels(255 * (np.arange(256) / 255) ** self.gamma)[pixels]
        if self.jpeg:
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "JPEG", quality=self.jpeg)
            pixels = np.asarray(Image.open(encoded))
        return pixels


def _levels(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _stained(pixels: Pixels, haematoxylin: float, eosin: float) -> Pixels:
    """With more or less of two stains: their densities in optical density are multiplied by these factors."""
    light = np.maximum(np.arange(256), 1e-3) / 255
    densities = np.maximum(-np.log(light)[pixels] @ np.linalg.inv(_STAINS), 0) * (haematoxylin, eosin, 1.0)
    return _levels(255 * np.exp(-densities @ _STAINS))


def _turned(pixels: Pixels, angle: float, zoom: float) -> Pixels:
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
