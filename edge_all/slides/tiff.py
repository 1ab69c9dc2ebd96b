"""TIFF slides that OpenSlide does not read, OME-TIFF above all, and what is checked of every TIFF file first.

tifffile parses the file (https://github.com/cgohlke/tifffile), imagecodecs decompresses its tiles.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_all.errors import ImageError, in_one_line
from edge_all.image.tiff_pages import SIGNATURES
from edge_all.slides.scale import plausible
from edge_all.slides.tiff_level import Level, check_compression, piece
from edge_all.tiles import Box

MOST_PIXELS = 1 << 24
"""Of one tile or strip, which a reader decodes whole: 4096 squared."""

_MOST_PAGES = 10_000

_UNITS = {"m": 1e6, "mm": 1e3, "cm": 1e4, "µm": 1.0, "um": 1.0, "nm": 1e-3}

Pixels = npt.NDArray[np.uint8]


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFF files do."""
    try:
        with path.open("rb") as file:
            return file.read(4) in SIGNATURES
    except OSError:
        return False


def check(path: Path) -> bool:
    """Check that no tile of a TIFF file is so large that decoding it would fill the memory.

    Args:
        path: Any file; only a TIFF file is looked into.

    Returns:
        Whether it is an OME-TIFF.

    Raises:
        ImageError: It is damaged, or claims what no slide has.
    """
    if not is_tiff(path):
        return False
    with opened(path) as file:
        try:
            pages = list(_pages(file))
            sizes = [piece(page) for page in pages]
            is_ome = bool(file.is_ome)
        except Exception as error:  # a parser may fail in any way on what is no TIFF
            raise ImageError(f"the TIFF file is damaged ({in_one_line(error)[:80]})") from None
    for width, height in sizes:
        if width * height > MOST_PIXELS:
            raise ImageError(
                f"the TIFF file has tiles or strips of {width}x{height} pixels; wanted tiles of at most {MOST_PIXELS} "
                "pixels: save it as a tiled, pyramidal TIFF"
            )
    return is_ome


def opened(path: Path) -> Any:
    """A ``tifffile.TiffFile``.

    Raises:
        ImageError: It is damaged.
    """
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except Exception as error:
        raise ImageError(f"the TIFF file is damaged ({in_one_line(error)[:80]})") from None


def _pages(file: Any) -> Any:
    """Every page of a file, those below other pages included."""
    count = 0
    waiting = list(file.pages)
    while waiting:
        page = waiting.pop()
        count += 1
        if count > _MOST_PAGES:
            raise ValueError(f"it has more than {_MOST_PAGES} pages")
        waiting += list(page.pages or ()) if getattr(page, "subifds", None) else []
        yield page.aspage()


class TiffSlide:
    """A TIFF file with tiles in RGB; a `edge_all.slides.reader.Slide`."""

    def __init__(self, path: Path) -> None:
        self._file = opened(path)
        try:
            series = self._file.series[0]
            pages = [level.keyframe for level in series.levels]
            axes = series.levels[0].axes
        except Exception as error:
            self._file.close()
            raise ImageError(f"the TIFF file is damaged ({in_one_line(error)[:80]})") from None
        first = pages[0]
        try:
            for page in pages:
                check_compression(page)
        except ImageError:
            self._file.close()
            raise
        if axes != "YXS" or first.samplesperpixel != 3 or first.dtype != np.uint8:
            self._file.close()
            raise ImageError(f"a TIFF file of {axes} in {first.dtype}; wanted RGB of 8 bits, not in separate planes")
        self.size = (int(first.imagewidth), int(first.imagelength))
        self.downsamples = tuple(first.imagewidth / page.imagewidth for page in pages)
        self.um_per_px = self._scale(first)
        status = os.stat(path)
        self.identity = f"{status.st_mtime_ns} {status.st_size}"
        lock = threading.Lock()
        self._levels = [Level(page, lock) for page in pages]

    def read(self, level: int, box: Box) -> Pixels:
        """A part of a level; see `edge_all.slides.reader.Slide`."""
        return self._levels[level].read(box, self.downsamples[level])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _scale(self, first: Any) -> float | None:
        """Micrometres a pixel by the OME metadata, or by the resolution of the first page."""
        try:
            if self._file.is_ome:
                return plausible(_ome_scale(self._file.ome_metadata))
            unit = {2: 25400.0, 3: 10000.0}[int(first.resolutionunit)]
            return plausible(unit / float(first.resolution[0]))
        except Exception:
            return None


def _ome_scale(metadata: str) -> float:
    """Micrometres a pixel of the first image, by its metadata in XML."""
    import tifffile

    pixels = tifffile.xml2dict(metadata)["OME"]["Image"]
    pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
    return float(pixels["PhysicalSizeX"]) * _UNITS[pixels.get("PhysicalSizeXUnit", "µm")]
