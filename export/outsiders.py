"""Pictures that are no field of the training data: what a bundle must not answer with ``ok``.

Noise, flat and graded pictures, patterns, smears in other stains and at other scales, single large cells and tissue are
drawn. The photographs are those that come with scikit-learn, and with scikit-image where that is installed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_all.record import OutsidersRecord

from .dataset import synthetic

Pixels = npt.NDArray[np.uint8]

_SIDE = 224

_EACH = 6
"""Pictures of each drawn kind."""

_CROPS = 3
"""Parts of each photograph, beside the whole."""

_PACKAGES = {"sklearn": "datasets/images", "skimage": "data"}
"""Packages with photographs, and the folder that these are in."""

_LEAST_SIDE = 64
"""Of a photograph; smaller files are icons and masks."""

_OTHER_STAINS = {
    "brown and blue": ((0.27, 0.57, 0.78), (0.65, 0.70, 0.29)),
    "green and red": ((0.10, 0.95, 0.30), (0.95, 0.20, 0.55)),
    "violet alone": ((0.05, 0.05, 0.02), (0.55, 0.80, 0.20)),
    "blue alone": ((0.30, 0.25, 0.05), (0.95, 0.55, 0.10)),
}
"""Absorption of red, green and blue by what takes the place of eosin, and of the nuclear stain."""


class Outsider(NamedTuple):
    """A picture that is no field.

    Attributes:
        kind: What it shows, in words.
        pixels: ``uint8 [H, W, 3]``.
    """

    kind: str
    pixels: Pixels


@dataclass(frozen=True)
class Tally:
    """What a bundle says to outsiders.

    Attributes:
        pictures: How many it was shown.
        ok: How many it answered with ``ok``, by kind.
    """

    pictures: int
    ok: Counter[str]


def tally(is_ok: Callable[[Pixels], bool], shown: Iterable[Outsider]) -> Tally:
    """Show outsiders to a bundle.

    Args:
        is_ok: Whether a picture, ``uint8 [H, W, 3]``, is answered with ``ok``.
        shown: Those of `pictures`, at the size of the graph's input.
    """
    answered = [(kind, is_ok(pixels)) for kind, pixels in shown]
    return Tally(len(answered), Counter(kind for kind, ok in answered if ok))


def pictures(size: tuple[int, int], seed: int = 0) -> Iterator[Outsider]:
    """Outsiders, drawn and packaged.

    Args:
        size: Height and width, in pixels.
        seed: The same seed gives the same pictures.
    """
    return (Outsider(kind, _fitted(pixels, size)) for kind, pixels in _originals(seed))


@cache
def _originals(seed: int) -> Sequence[Outsider]:
    """Outsiders as they were drawn or cut out, which takes a second or two; they are of many sizes."""
    drawn = [
        Outsider(kind, draw(np.random.default_rng([seed, number, i])))
        for number, (kind, draw) in enumerate(_DRAWN.items())
        for i in range(_EACH)
    ]
    cut_out = [
        Outsider("photograph", np.asarray(crop))
        for picture in photographs()
        for crop in crops(picture, np.random.default_rng(seed), _CROPS)
    ]
    return (*drawn, *cut_out)


def sentence(record: OutsidersRecord) -> str:
    """How many of them a bundle answers, for the user."""
    worst = max(record["ok"].values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in record["kinds"].items())
    told = f"{record['pictures']} pictures that are no fields (drawn ones, photographs): "
    return told + (
        f"{worst} are answered with ok ({kinds}): the gate refuses this bundle" if worst else "none is answered with ok"
    )


def photographs() -> Iterator[Image.Image]:
    """Those that come with the packages here, in RGB."""
    for package, folder in _PACKAGES.items():
        spec = find_spec(package)
        if spec and spec.origin:
            yield from pictures_in(Path(spec.origin).parent / folder)


def pictures_in(folder: Path) -> Iterator[Image.Image]:
    """The pictures in a folder that can be read and are no icons, in RGB and in the order of their names."""
    for file in sorted(folder.iterdir()):
        try:
            with Image.open(file) as opened:
                picture = opened.convert("RGB")
        except (OSError, SyntaxError):
            continue
        if min(picture.size) >= _LEAST_SIDE:
            yield picture


def crops(picture: Image.Image, rng: np.random.Generator, count: int) -> Iterator[Image.Image]:
    """A picture, and square parts of it at random."""
    yield picture
    width, height = picture.size
    for _ in range(count):
        side = int(rng.uniform(0.3, 1) * min(width, height))
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        yield picture.crop((x, y, x + side, y + side))


def noise(rng: np.random.Generator) -> Pixels:
    """Every pixel another colour."""
    return rng.integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)


def coarse_noise(rng: np.random.Generator) -> Pixels:
    """Blurred squares, each of another colour."""
    cells = int(rng.integers(4, 28))
    few = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
    return np.asarray(few.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def flat(rng: np.random.Generator) -> Pixels:
    """One colour."""
    return np.full((_SIDE, _SIDE, 3), rng.integers(0, 256, 3), np.uint8)


def _grey_noise(rng: np.random.Generator) -> Pixels:
    return _levels(rng.normal(rng.uniform(60, 220), rng.uniform(3, 40), (_SIDE, _SIDE, 1)).repeat(3, 2))


def _tinted_noise(rng: np.random.Generator) -> Pixels:
    """The colours of a smear, and none of its shapes."""
    return _levels(rng.normal((205, 170, 190), rng.uniform(4, 30), (_SIDE, _SIDE, 3)))


def _grey(rng: np.random.Generator) -> Pixels:
    return np.full((_SIDE, _SIDE, 3), rng.choice((0, 40, 128, 200, 240, 255)), np.uint8)


def _gradient(rng: np.random.Generator) -> Pixels:
    across, down = _axes()
    turn = rng.uniform(0, 2 * np.pi)
    ramp = across * np.cos(turn) + down * np.sin(turn) if rng.random() < 0.5 else np.hypot(across, down)
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    first, second = rng.uniform(0, 255, (2, 3))
    return _levels(first + ramp[..., None] * (second - first))


def _pattern(rng: np.random.Generator) -> Pixels:
    """Stripes, a chessboard, or discs, in two colours."""
    across, down = ((axis + 1) * rng.uniform(8, 60) for axis in _axes())
    waves = np.sin(across), np.sin(down)
    shape = (waves[0], waves[0] * waves[1], waves[0] + waves[1])[int(rng.integers(3))] > 0
    first, second = rng.uniform(0, 255, (2, 3))
    return _levels(np.where(shape[..., None], first, second))


def _stained(name: str) -> Callable[[np.random.Generator], Pixels]:
    """A drawn smear in other stains."""

    def draw(rng: np.random.Generator) -> Pixels:
        densities = synthetic.densities(_smear(rng))
        return _light(densities @ np.array(_OTHER_STAINS[name]))

    return draw


def _dark_field(rng: np.random.Generator) -> Pixels:
    """Cells that shine on black, as in fluorescence."""
    shine = synthetic.densities(_smear(rng)) @ np.array([[0.1, 0.5, 0.2], [0.1, 0.3, 1.0]])
    return _levels(220 * np.minimum(shine, 1))


def _negative(rng: np.random.Generator) -> Pixels:
    return np.asarray(255 - _smear(rng))


def _far(rng: np.random.Generator) -> Pixels:
    """A smear at a quarter of the scale."""
    small = Image.fromarray(_smear(rng)).resize((_SIDE // 4, _SIDE // 4), Image.Resampling.BOX)
    turned = [np.rot90(np.asarray(small), turns) for turns in range(4)]
    return np.concatenate([np.concatenate([turned[i] for i in rng.permutation(4)], 1) for _ in range(4)])


def _near(rng: np.random.Generator) -> Pixels:
    """A smear at four times the scale."""
    side = _SIDE // 2
    large, (x, y) = _smear(rng, 2 * _SIDE), rng.integers(0, 2 * _SIDE - side, 2)
    part = Image.fromarray(large[y : y + side, x : x + side])
    return np.asarray(part.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))


def _single_cell(rng: np.random.Generator) -> Pixels:
    """One cell that fills half of the picture, on a clear ground."""
    across, down = (axis - rng.normal(0, 0.08) for axis in _axes())
    radius, angle = np.hypot(across, down), np.arctan2(down, across)
    edge = rng.uniform(0.45, 0.75) * (1 + 0.06 * np.cos(3 * angle + rng.uniform(0, 6)))
    lobes = rng.uniform(0.45, 0.8) * edge * (1 + rng.uniform(0, 0.5) * np.cos(int(rng.integers(1, 5)) * angle))
    cell, nucleus = np.clip((edge - radius) * 40, 0, 1), np.clip((lobes - radius) * 40, 0, 1)
    grains = 1 + 0.2 * _clouds(rng, 6)
    eosin, azure = 0.03 + cell * rng.uniform(0.2, 0.9) * grains, 0.03 + (0.15 * cell + 0.8 * nucleus) * grains
    return _light(np.stack([eosin, azure], -1) @ synthetic.STAINS)


def _tissue(rng: np.random.Generator) -> Pixels:
    """Fibres and crowded nuclei in haematoxylin and eosin, without any clear ground."""
    fibres = np.abs(np.sin(5 * _clouds(rng, 40) + _clouds(rng, 9)))
    nuclei = np.clip(3 * (_clouds(rng, rng.uniform(5, 12)) - 0.5), 0, 1)
    eosin = 0.35 + 0.5 * fibres + 0.1 * _clouds(rng, 3)
    densities = np.stack([nuclei * rng.uniform(0.6, 1.1), np.maximum(eosin, 0)], -1)
    return _light(densities @ np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]]))


_DRAWN: Mapping[str, Callable[[np.random.Generator], Pixels]] = {
    "noise": noise,
    "coarse noise": coarse_noise,
    "grey noise": _grey_noise,
    "noise in stain colours": _tinted_noise,
    "grey": _grey,
    "flat colour": flat,
    "gradient": _gradient,
    "pattern": _pattern,
    **{f"drawn cells in {name}": _stained(name) for name in _OTHER_STAINS},
    "dark field": _dark_field,
    "drawn cells in negative": _negative,
    "drawn cells at a quarter of the scale": _far,
    "drawn cells at four times the scale": _near,
    "single large cell": _single_cell,
    "tissue": _tissue,
}
"""What is drawn, by kind."""


def _smear(rng: np.random.Generator, size: int = _SIDE) -> Pixels:
    return synthetic.draw_field(int(rng.integers(len(synthetic.CLASSES))), rng, size=size)


def _axes() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """From -1 to 1, to the right and down, ``[224, 224]`` each."""
    down, across = np.mgrid[-1 : 1 : _SIDE * 1j, -1 : 1 : _SIDE * 1j]
    return across, down


def _clouds(rng: np.random.Generator, grain: float) -> npt.NDArray[np.float32]:
    """Smooth noise of about unit spread whose blobs are `grain` pixels wide."""
    return synthetic.smooth_noise(rng, (_SIDE, _SIDE), grain)


def _light(densities: npt.NDArray[np.float64]) -> Pixels:
    return _levels(245 * np.exp(-densities))


def _levels(values: npt.NDArray[np.float64]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
