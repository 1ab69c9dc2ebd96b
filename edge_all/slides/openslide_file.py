"""What scanners write, and tiled TIFF files, through OpenSlide (https://openslide.org/formats/).

OpenSlide says what levels there are. The tiles of a plain TIFF file, or of an SVS file with JPEG tiles, are then
decoded without it, in a third of its time: it draws each into a picture with transparency.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_all.errors import ImageError
from edge_all.slides import tiff
from edge_all.slides.scale import plausible, scaled
from edge_all.slides.tiff_level import Level, is_plain
from edge_all.tiles import Box

_BACKGROUND = "openslide.background-color"

_SIDE_BY_SIDE = ("aperio", "generic-tiff")
"""Formats whose tiles lie as a TIFF file says; those of others overlap, or are a part of a larger picture."""

_ALIKE = 64, 2
"""Both readers must give the same for a square of so many pixels in the middle of a slide, to so many levels of 255."""

Pixels = npt.NDArray[np.uint8]


class OpenSlideFile:
    """A slide that OpenSlide reads; a `edge_all.slides.reader.Slide`."""

    def __init__(self, path: Path) -> None:
        import openslide

        self._errors = openslide.OpenSlideError
        self._file = openslide.OpenSlide(path)
        properties: Mapping[str, str] = self._file.properties
        self.size = self._file.dimensions
        self.downsamples = tuple(self._file.level_downsamples)
        self.um_per_px = _um_per_px(properties)
        status = os.stat(path)
        quick = properties.get(openslide.PROPERTY_NAME_QUICKHASH1, "")
        self.identity = f"{quick or status.st_mtime_ns} {status.st_size}"
        colour = properties.get(_BACKGROUND, "ffffff")
        self._background = np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], np.float32)
        plain = properties.get(openslide.PROPERTY_NAME_VENDOR) in _SIDE_BY_SIDE
        self._tiff = tiff.opened(path) if plain else None
        self._lock = threading.Lock()

    def read(self, level: int, box: Box) -> Pixels:
        """A part of a level; see `edge_all.slides.reader.Slide`."""
        with self._lock:
            levels = self._levels
        return levels[level].read(box, self.downsamples[level]) if levels else self._drawn(level, box)

    def _drawn(self, level: int, box: Box) -> Pixels:
        """A part of a level, as OpenSlide draws it."""
        try:
            region = self._file.read_region(box[:2], level, scaled(box, self.downsamples[level]))
        except self._errors as error:
            raise ImageError(f"the slide is damaged at {box.left}, {box.top} ({error})") from None
        return _opaque(np.asarray(region), self._background)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._tiff:
            self._tiff.close()

    @cached_property
    def _levels(self) -> list[Level] | None:
        """The levels, each a page with plain tiles; None where one is not, or is not what OpenSlide reads there."""
        if not self._tiff:
            return None
        reading, levels = threading.Lock(), []
        for size in self._file.level_dimensions:
            same = [page for page in self._tiff.pages if page.is_tiled and page.shape[1::-1] == size]
            if len(same) != 1 or not is_plain(same[0]):
                return None
            levels.append(Level(same[0], reading))
        side, most = _ALIKE
        left, top = (max(0, length - side) // 2 for length in self.size)
        box = Box(left, top, left + side, top + side)
        try:
            difference = levels[0].read(box, 1) - self._drawn(0, box).astype(np.int16)
        except ImageError:
            return levels  # it is damaged there, which is told when that part is read
        return levels if np.abs(difference).max() <= most else None


def _um_per_px(properties: Mapping[str, Any]) -> float | None:
    """The mean of both directions, which differ by less than a percent."""
    try:
        sides = [float(properties[f"openslide.mpp-{side}"]) for side in "xy"]
    except (KeyError, ValueError):
        return None
    return plausible(sum(sides) / 2)


def _opaque(pixels: Pixels, background: npt.NDArray[np.float32]) -> Pixels:
    """RGB of RGBA ``uint8 [h, w, 4]``; a scanner leaves clear what it did not scan."""
    alpha = pixels[..., 3:]
    if alpha.min() == 255:
        return pixels[..., :3]
    share = alpha.astype(np.float32) / 255
    mixed: Pixels = (pixels[..., :3] * share + background * (1 - share)).round().astype(np.uint8)
    return mixed
