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
from edge_all.slides.scale import plausible, scaled
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
    with _opened(path) as file:
        try:
            pages = list(_pages(file))
            sizes = [_piece(page) for page in pages]
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


def _opened(path: Path) -> Any:
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


def _piece(page: Any) -> tuple[int, int]:
    """Width and height of a tile, or of a strip."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))


class TiffSlide:
    """A TIFF file with tiles in RGB; a `edge_all.slides.reader.Slide`."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path)
        try:
            series = self._file.series[0]
            self._levels = [level.keyframe for level in series.levels]
            axes = series.levels[0].axes
        except Exception as error:
            self._file.close()
            raise ImageError(f"the TIFF file is damaged ({in_one_line(error)[:80]})") from None
        first = self._levels[0]
        if axes != "YXS" or first.samplesperpixel != 3 or first.dtype != np.uint8:
            self._file.close()
            raise ImageError(f"a TIFF file of {axes} in {first.dtype}; wanted RGB of 8 bits, not in separate planes")
        self.size = (int(first.imagewidth), int(first.imagelength))
        self.downsamples = tuple(first.imagewidth / level.imagewidth for level in self._levels)
        self.um_per_px = self._scale()
        status = os.stat(path)
        self.identity = f"{status.st_mtime_ns} {status.st_size}"
        self._lock = threading.Lock()

    def read(self, level: int, box: Box) -> Pixels:
        """A part of a level; see `edge_all.slides.reader.Slide`."""
        page, downsample = self._levels[level], self.downsamples[level]
        left, top = round(box.left / downsample), round(box.top / downsample)
        width, height = scaled(box, downsample)
        out = np.full((height, width, 3), 255, np.uint8)
        piece_width, piece_height = _piece(page)
        across = -(-page.imagewidth // piece_width)
        for row in range(max(0, top) // piece_height, -(-min(page.imagelength, top + height) // piece_height)):
            for column in range(max(0, left) // piece_width, -(-min(page.imagewidth, left + width) // piece_width)):
                x, y = column * piece_width, row * piece_height
                pixels = self._decoded(page, row * across + column)
                if pixels is not None:
                    _paste(out, pixels[: page.imagelength - y, : page.imagewidth - x], x - left, y - top)
        return out

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _decoded(self, page: Any, index: int) -> Pixels | None:
        """A tile; None where the file leaves it out."""
        try:
            size = page.databytecounts[index]
            if not size:
                return None
            with self._lock:
                handle = page.parent.filehandle
                handle.seek(page.dataoffsets[index])
                data = handle.read(size)
            if len(data) < size:
                raise ValueError("it ends too early")
            decoded = page.decode(data, index, jpegtables=page.jpegtables)[0]
            pixels: Pixels = decoded.reshape(decoded.shape[-3:])
        except Exception as error:
            raise ImageError(f"the TIFF file is damaged in tile {index} ({in_one_line(error)[:80]})") from None
        return pixels

    def _scale(self) -> float | None:
        """Micrometres a pixel by the OME metadata, or by the resolution of the first page."""
        try:
            if self._file.is_ome:
                return plausible(_ome_scale(self._file.ome_metadata))
            unit = {2: 25400.0, 3: 10000.0}[int(self._levels[0].resolutionunit)]
            return plausible(unit / float(self._levels[0].resolution[0]))
        except Exception:
            return None


def _paste(out: Pixels, pixels: Pixels, x: int, y: int) -> None:
    """Put pixels into a picture, with their top left at a place that may be outside."""
    height, width = out.shape[:2]
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + len(pixels)), min(width, x + pixels.shape[1])
    if bottom > top and right > left:
        out[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]


def _ome_scale(metadata: str) -> float:
    """Micrometres a pixel of the first image, by its metadata in XML."""
    import tifffile

    pixels = tifffile.xml2dict(metadata)["OME"]["Image"]
    pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
    return float(pixels["PhysicalSizeX"]) * _UNITS[pixels.get("PhysicalSizeXUnit", "µm")]
