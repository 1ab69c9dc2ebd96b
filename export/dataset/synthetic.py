"""A small drawn data set of four classes, for trying the toolchain and testing it without a photograph.

The classes borrow the names of the public ALL set and differ in what a haematologist looks at: cell size, nucleus to
cytoplasm ratio, chromatin, nucleoli, nuclear outline, crowding. They overlap, stain and light vary from image to image,
and nothing here says anything about real cells. Colour follows the Beer-Lambert law: two stains' densities are drawn
and turned into light (the model that Ruifrok and Johnston 2001, "Quantification of histochemical staining by color
deconvolution", inverts).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from edge_all.errors import DataError

CLASSES = ("Benign", "Early", "Pre", "Pro")
"""Class names; a label is an index into them."""

_EOSIN = np.array([0.22, 0.60, 0.42], np.float32)
_AZURE = np.array([0.78, 1.02, 0.24], np.float32)

STAINS = np.stack([_EOSIN, _AZURE])
"""Absorption of the red and of the blue stain, ``float32 [2, 3]``, in red, green and blue."""


@dataclass(frozen=True)
class _Kind:
    """How the nucleated cells of a class look; pairs are ``(mean, spread)`` of a normal distribution.

    Attributes:
        radius: Of the cell, in pixels of a 224-pixel field.
        ratio: Radius of the nucleus over radius of the cell.
        density: Of the nucleus, over the mean of the classes.
        chromatin: Contrast of the texture in the nucleus.
        grain: Length of that texture, in pixels.
        outline: Unevenness of the nucleus's edge.
        nucleoli: Mean number of nucleoli.
        crowd: Fewest and most cells in a field.
    """

    radius: tuple[float, float]
    ratio: tuple[float, float]
    density: float
    chromatin: tuple[float, float]
    grain: float
    outline: float
    nucleoli: float
    crowd: tuple[int, int]


_KINDS = (
    _Kind((10.0, 0.9), (0.70, 0.05), 1.20, (0.06, 0.03), 5.0, 0.020, 0.0, (4, 7)),
    _Kind((14.0, 1.1), (0.91, 0.02), 1.00, (0.14, 0.04), 3.0, 0.040, 0.3, (4, 8)),
    _Kind((15.5, 1.2), (0.68, 0.05), 1.00, (0.55, 0.08), 5.5, 0.100, 0.1, (4, 8)),
    _Kind((20.0, 1.5), (0.86, 0.03), 0.78, (0.10, 0.04), 2.5, 0.030, 3.2, (4, 7)),
)


def draw(root: Path, *, per_class: int = 40, size: int = 224, seed: int = 0) -> Path:
    """Write a drawn set as JPEG files in one folder a class; each image depends on the seed and its own place alone.

    Args:
        root: Folder to write into; made where it is missing.
        per_class: Images of each class.
        size: Side of an image, in pixels.
        seed: The same seed gives the same bytes on the same machine.

    Returns:
        `root`.

    Raises:
        DataError: `root` holds a file that is none of these.
    """
    root = Path(root)
    places = [
        (label, index, root / name / f"{name}-{index + 1:03d}.jpg")
        for label, name in enumerate(CLASSES)
        for index in range(per_class)
    ]
    if foreign := {path for path in root.rglob("*") if not path.is_dir()} - {path for _, _, path in places}:
        raise DataError(f"{min(foreign)}: is no drawn image, and drawn ones would be mixed with it; give a new folder")
    for label, index, path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        field = draw_field(label, np.random.default_rng([seed, label, index]), size=size)
        Image.fromarray(field).save(path, quality=92, subsampling=0)
    return root


def draw_field(label: int, rng: np.random.Generator, *, size: int = 224) -> npt.NDArray[np.uint8]:
    """Draw one field of the class ``CLASSES[label]``.

    Returns:
        ``uint8 [size, size, 3]``.
    """
    kind = _KINDS[label]
    scale = size / 224
    field = _Field(np.zeros((size, size), np.float32), np.zeros((size, size), np.float32), rng, scale)
    for x, y in _places(rng, int(rng.integers(40, 65)), 11.5 * scale, size, []):
        _red_cell(field, x, y)
    taken: list[tuple[float, float]] = []
    shade = rng.normal(1, 0.06)
    for x, y in _places(
        rng, int(rng.integers(kind.crowd[0], kind.crowd[1] + 1)), 1.9 * kind.radius[0] * scale, size, taken
    ):
        _white_cell(field, x, y, kind, shade)
    # A field of any class may hold an ordinary lymphocyte, and platelets, so that one cell does not give it away.
    for x, y in _places(rng, int(rng.random() < 0.3), 27 * scale, size, taken):
        _white_cell(field, x, y, _KINDS[0], shade)
    for x, y in rng.uniform(0, size, (int(rng.integers(0, 7)), 2)):
        _platelet(field, x, y)
    return _expose(field)


def densities(field: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Densities of the two `STAINS` in a drawn field ``uint8 [h, w, 3]``, ``float32 [h, w, 2]``."""
    absorbed = -np.log(np.maximum(field, 1).astype(np.float32) / 255)
    found: npt.NDArray[np.float32] = np.maximum(absorbed @ np.linalg.pinv(STAINS), 0)
    return found


@dataclass(frozen=True)
class _Field:
    """A field that is being drawn.

    Attributes:
        eosin: Density of the red stain, ``float32 [size, size]``; drawn into.
        azure: Density of the blue stain, likewise.
        rng: The source of every random choice.
        scale: Pixels for one pixel of a 224-pixel field.
    """

    eosin: npt.NDArray[np.float32]
    azure: npt.NDArray[np.float32]
    rng: np.random.Generator
    scale: float

    @property
    def size(self) -> int:
        """Side, in pixels."""
        return len(self.eosin)


def _places(
    rng: np.random.Generator, count: int, apart: float, size: int, taken: list[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Up to `count` centres, mostly `apart` pixels from each other and from `taken`, to which they are added."""
    centres: list[tuple[float, float]] = []
    for _ in range(count):
        for _ in range(8):
            x, y = rng.uniform(0, size, 2)
            if all((x - a) ** 2 + (y - b) ** 2 > (apart * rng.uniform(0.75, 1)) ** 2 for a, b in taken):
                taken.append((x, y))
                centres.append((x, y))
                break
    return centres


@dataclass(frozen=True)
class _Patch:
    """The part of a field around a cell: its slices, and polar coordinates about the centre, ``float32 [h, w]``."""

    at: tuple[slice, slice]
    distance: npt.NDArray[np.float32]
    angle: npt.NDArray[np.float32]

    def inside(self, edge: npt.NDArray[np.float32] | float, soft: float = 1.0) -> npt.NDArray[np.float32]:
        """1 inside an edge given by angle, 0 outside, with a ramp `soft` pixels wide."""
        return np.asarray(np.clip((edge - self.distance) / soft + 0.5, 0, 1), np.float32)

    def edge(self, rng: np.random.Generator, radius: float, uneven: float) -> npt.NDArray[np.float32]:
        """Radius by angle of a wavy, slightly oval outline."""
        wave = np.zeros_like(self.angle)
        for order, share in ((2, 1.2), (3, 1.0), (4, 0.7), (6, 0.4)):
            wave += share * rng.normal() * np.cos(order * self.angle + rng.uniform(0, 2 * np.pi)).astype(np.float32)
        return radius * (1 + uneven * wave)


def _patch(size: int, x: float, y: float, reach: float) -> _Patch:
    left, right = max(int(x - reach), 0), min(int(x + reach) + 2, size)
    top, bottom = max(int(y - reach), 0), min(int(y + reach) + 2, size)
    across = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(x)
    down = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)
    return _Patch((slice(top, bottom), slice(left, right)), np.hypot(across, down), np.arctan2(down, across))


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> npt.NDArray[np.float32]:
    """Smooth noise of about unit spread whose blobs are `grain` pixels wide; ``float32 [shape]``."""
    coarse = rng.normal(size=(max(int(shape[0] / grain), 1) + 3, max(int(shape[1] / grain), 1) + 3)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return 1.3 * np.asarray(smooth, np.float32)


def _red_cell(field: _Field, x: float, y: float) -> None:
    rng = field.rng
    radius = rng.normal(8.6, 0.7) * field.scale
    patch = _patch(field.size, x, y, 1.5 * radius)
    edge = patch.edge(rng, radius, 0.025)
    # Biconcave: thickest in a ring, with the pallor in the middle wide in some cells and shut in others.
    pallor = rng.uniform(0.15, 0.75) * np.exp(-((patch.distance / (0.48 * radius)) ** 2))
    field.eosin[patch.at] += patch.inside(edge, 1.4) * (1 - pallor) * rng.normal(0.50, 0.05)


def _white_cell(field: _Field, x: float, y: float, kind: _Kind, shade: float) -> None:
    eosin, azure, rng, scale = field.eosin, field.azure, field.rng, field.scale
    radius = max(rng.normal(*kind.radius), 7) * scale
    ratio = float(np.clip(rng.normal(*kind.ratio), 0.5, 0.95))
    patch = _patch(len(eosin), x, y, 1.5 * radius)
    cell = patch.inside(patch.edge(rng, radius, 0.03), 1.4)
    shift = rng.uniform(0, 0.9 * (1 - ratio)) * radius
    turn = rng.uniform(0, 2 * np.pi)
    size = (patch.distance.shape[0], patch.distance.shape[1])
    inner = _moved(patch, shift, turn)
    edge = inner.edge(rng, ratio * radius, kind.outline)
    if rng.random() < 6 * kind.outline:  # an indented nucleus
        bay = np.angle(np.exp(1j * (inner.angle - rng.uniform(0, 2 * np.pi)))).astype(np.float32)
        edge = edge * (1 - rng.uniform(0.15, 0.4) * np.exp(-((bay / 0.45) ** 2)))
    nucleus = inner.inside(edge, 1.6) * cell
    contrast = max(rng.normal(*kind.chromatin), 0.03)
    density = 1 + contrast * smooth_noise(rng, size, kind.grain * scale) + 0.05 * smooth_noise(rng, size, 1.6 * scale)
    density += 0.14 * np.exp(-(((edge - inner.distance) / (1.8 * scale)) ** 2))  # chromatin lines the membrane
    for _ in range(min(int(rng.poisson(kind.nucleoli)), 4)):
        away, where = rng.uniform(0, 0.6) * ratio * radius, rng.uniform(0, 2 * np.pi)
        width = rng.uniform(1.6, 2.8) * scale
        spot = inner.distance**2 + away**2 - 2 * inner.distance * away * np.cos(inner.angle - where)
        density -= rng.uniform(0.30, 0.55) * np.exp(-np.maximum(spot, 0) / width**2)
    density = np.clip(density, 0.25, 1.7) * kind.density * shade
    # The cell lies on top: what is under it is replaced, not added to.
    body = 0.30 * (1 + 0.12 * smooth_noise(rng, size, 4 * scale))
    eosin[patch.at] = eosin[patch.at] * (1 - cell) + cell * (0.16 + 0.10 * nucleus)
    azure[patch.at] = azure[patch.at] * (1 - cell) + cell * ((1 - nucleus) * body * shade + 0.92 * nucleus * density)


def _moved(patch: _Patch, shift: float, turn: float) -> _Patch:
    """`patch` in polar coordinates about a centre moved by `shift` pixels towards `turn`."""
    across = patch.distance * np.cos(patch.angle) - np.float32(shift * np.cos(turn))
    down = patch.distance * np.sin(patch.angle) - np.float32(shift * np.sin(turn))
    return _Patch(patch.at, np.hypot(across, down), np.arctan2(down, across))


def _platelet(field: _Field, x: float, y: float) -> None:
    rng = field.rng
    radius = rng.uniform(1.2, 2.6) * field.scale
    patch = _patch(field.size, x, y, 2 * radius)
    body = patch.inside(patch.edge(rng, radius, 0.12), 1.5)
    field.azure[patch.at] += body * rng.uniform(0.25, 0.6)


def _expose(field: _Field) -> npt.NDArray[np.uint8]:
    """Densities to an RGB photograph: variation of stain and light, vignetting, focus, sensor noise."""
    rng, size = field.rng, field.size
    plasma = 0.05 + 0.03 * np.abs(smooth_noise(rng, (size, size), size / 4))
    red = _EOSIN * rng.normal(1, 0.04, 3).astype(np.float32) * rng.normal(1, 0.06)
    blue = _AZURE * rng.normal(1, 0.03, 3).astype(np.float32) * rng.normal(1, 0.05)
    light = np.clip(rng.normal(0.95, 0.035) * rng.normal(1, 0.02, 3), 0.8, 1.0).astype(np.float32)
    image = np.exp(-((field.eosin + plasma)[..., None] * red + field.azure[..., None] * blue)) * light
    down, across = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j].astype(np.float32)
    x, y = rng.normal(0, 0.25, 2)
    image *= (1 - rng.uniform(0, 0.07) * ((across - x) ** 2 + (down - y) ** 2))[..., None]
    photo = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8))
    photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.7) * field.scale))
    noisy = np.asarray(photo) + rng.normal(0, rng.uniform(1, 2), (size, size, 3)).astype(np.float32)
    return np.clip(noisy + 0.5, 0, 255).astype(np.uint8)
