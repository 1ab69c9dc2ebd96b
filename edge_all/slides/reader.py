"""A slide file, whatever made it: its size, its scale, and the pixels of any part.

OpenSlide reads what scanners write (SVS, NDPI, MRXS, SCN, BIF, VMS, CZI, DICOM) and tiled TIFF files
(https://openslide.org/formats/); `edge_all.slides.tiff` reads OME-TIFF.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_all.errors import EdgeAllError, ImageError, install_hint
from edge_all.slides import tiff
from edge_all.slides.scale import plausible, scaled
from edge_all.tiles import Box

LARGEST_SIDE = 2_000_000
"""In pixels; the largest slides that scanners make have a tenth of it."""

_BACKGROUND = "openslide.background-color"

Pixels = npt.NDArray[np.uint8]


class Slide(Protocol):
    """An open slide. Several threads may read from it.

    Attributes:
        size: Width and height, in pixels of level 0.
        downsamples: Of each level: by how much it is smaller than level 0.
        um_per_px: Micrometres that a pixel of level 0 shows; None where the file does not say.
        identity: What tells this content from another one's.
    """

    size: tuple[int, int]
    downsamples: tuple[float, ...]
    um_per_px: float | None
    identity: str

    def read(self, level: int, box: Box) -> Pixels:
        """A part, ``uint8 [h, w, 3]``, as a level shows it; what is outside the slide is white.

        Args:
            level: The level.
            box: The part, in pixels of level 0.

        Raises:
            ImageError: The part is damaged.
        """

    def close(self) -> None:
        """Close the file."""


def check_extra() -> None:
    """Check that what reads slides, and what writes their tables, is installed.

    Raises:
        EdgeAllError: It is not.
    """
    if not all(find_spec(package) for package in ("openslide", "pyarrow", "tifffile")):
        raise EdgeAllError(f"whole slides take an extra: {install_hint('slides')}")


def open_slide(path: Path) -> Slide:
    """Open a slide.

    Raises:
        ImageError: It is no slide that can be read, or it claims what no slide has.
        EdgeAllError: The extra is missing.
    """
    check_extra()
    import openslide

    if not path.exists():
        raise ImageError("there is no such file")
    is_ome = tiff.check(path)
    slide: Slide
    try:
        if is_ome or (tiff.is_tiff(path) and openslide.OpenSlide.detect_format(path) is None):
            slide = tiff.TiffSlide(path)
        else:
            slide = _OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise ImageError("it is no slide of a kind that is read; wanted SVS, NDPI, MRXS, SCN, DICOM or TIFF") from None
    except openslide.OpenSlideError as error:
        raise ImageError(f"the slide is damaged ({error})") from None
    if not all(0 < side <= LARGEST_SIDE for side in slide.size):
        slide.close()
        raise ImageError(f"it claims {slide.size[0]}x{slide.size[1]} pixels; wanted at most {LARGEST_SIDE} a side")
    return slide


class _OpenSlide:
    """A slide that OpenSlide reads."""

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

    def read(self, level: int, box: Box) -> Pixels:
        try:
            region = self._file.read_region(box[:2], level, scaled(box, self.downsamples[level]))
        except self._errors as error:
            raise ImageError(f"the slide is damaged at {box.left}, {box.top} ({error})") from None
        return _opaque(np.asarray(region), self._background)

    def close(self) -> None:
        self._file.close()


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
