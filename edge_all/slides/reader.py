"""A slide file, whatever made it: its size, its scale, and the pixels of any part.

`edge_all.slides.openslide_file` reads what scanners write, `edge_all.slides.tiff` reads OME-TIFF.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_all.errors import EdgeAllError, ImageError, install_hint
from edge_all.slides import tiff
from edge_all.slides.openslide_file import OpenSlideFile
from edge_all.tiles import Box

LARGEST_SIDE = 2_000_000
"""In pixels; the largest slides that scanners make have a tenth of it."""

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
            slide = OpenSlideFile(path)
    except openslide.OpenSlideUnsupportedFormatError:
        raise ImageError("it is no slide of a kind that is read; wanted SVS, NDPI, MRXS, SCN, DICOM or TIFF") from None
    except openslide.OpenSlideError as error:
        raise ImageError(f"the slide is damaged ({error})") from None
    if not all(0 < side <= LARGEST_SIDE for side in slide.size):
        slide.close()
        raise ImageError(f"it claims {slide.size[0]}x{slide.size[1]} pixels; wanted at most {LARGEST_SIDE} a side")
    return slide
