"""One level of a TIFF slide: any part of it, decoded tile by tile (imagecodecs, with libjpeg-turbo for JPEG)."""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_all.errors import ImageError, in_one_line
from edge_all.image import jpeg
from edge_all.slides.scale import scaled
from edge_all.tiles import Box

_JPEG, _RGB, _YCBCR = 7, 2, 6

_PLAIN = (1, 5, _JPEG, 8, 32946)
"""Compressions that every reader decodes alike: none, LZW, JPEG, and Deflate under both its numbers."""

_JPEG_2000 = (33003, 33004, 33005, 34712)

_READ = (*_PLAIN, *_JPEG_2000, 34925, 50000)
"""Compressions whose decoding stays within what a tile may hold: those, LZMA and Zstandard."""

Pixels = npt.NDArray[np.uint8]


def piece(page: Any) -> tuple[int, int]:
    """Width and height of a tile of a page, or of a strip."""
    if page.is_tiled:
        return int(page.tilewidth), int(page.tilelength)
    return int(page.imagewidth), int(min(page.rowsperstrip, page.imagelength))


class Level:
    """A page of a TIFF file with tiles or strips in RGB of 8 bits. Several threads may read from it."""

    def __init__(self, page: Any, lock: threading.Lock) -> None:
        """Take a page.

        Args:
            page: The page, of tifffile.
            lock: Of the file, which all its levels read from.
        """
        self._page, self._lock = page, lock
        self._piece = piece(page)
        self.size = int(page.imagewidth), int(page.imagelength)

    def read(self, box: Box, downsample: float) -> Pixels:
        """A part, ``uint8 [h, w, 3]``; what is outside, or left out by the file, is white.

        Args:
            box: The part, in pixels of level 0.
            downsample: By how much this level is smaller.

        Raises:
            ImageError: A tile is damaged.
        """
        left, top = round(box.left / downsample), round(box.top / downsample)
        width, height = scaled(box, downsample)
        out = np.full((height, width, 3), 255, np.uint8)
        (right, bottom), (across, down) = self.size, self._piece
        columns = range(max(0, left) // across, -(-min(right, left + width) // across))
        for row in range(max(0, top) // down, -(-min(bottom, top + height) // down)):
            for column in columns:
                x, y = column * across, row * down
                pixels = self._decoded(row * -(-right // across) + column)
                if pixels is not None:
                    _paste(out, pixels[: bottom - y, : right - x], x - left, y - top)
        return out

    def _decoded(self, index: int) -> Pixels | None:
        """A tile; None where the file leaves it out."""
        page = self._page
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
            self._check_claim(data)
            decoded = page.decode(data, index, jpegtables=page.jpegtables)[0]
            pixels: Pixels = decoded.reshape(decoded.shape[-3:])
        except Exception as error:
            raise ImageError(f"the TIFF file is damaged in tile {index} ({in_one_line(error)[:80]})") from None
        return pixels

    def _check_claim(self, data: bytes) -> None:
        """Check that coded data do not claim to be larger than the tile: they would be decoded whole first.

        Raises:
            ImageError: They do, or they are damaged.
        """
        claimed = self._piece
        if self._page.compression == _JPEG:
            claimed = jpeg.header(data).size
        elif self._page.compression in _JPEG_2000:
            claimed = _jpeg_2000_size(data)
        if any(side > most for side, most in zip(claimed, self._piece, strict=True)):
            raise ImageError(f"it claims {claimed[0]}x{claimed[1]} pixels")


def check_compression(page: Any) -> None:
    """Check that the decoding of a page's tiles stays within what they may hold.

    Raises:
        ImageError: It might not.
    """
    if page.compression not in _READ:
        name = getattr(page.compression, "name", page.compression)
        raise ImageError(f"its compression is {name}; wanted JPEG, JPEG 2000, LZW, Deflate, LZMA or Zstandard")


def _jpeg_2000_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first segment of a code stream (ISO/IEC 15444-1, A.5.1).

    Raises:
        ImageError: There is none.
    """
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(data) < at + 24:
        raise ImageError("no JPEG 2000 code stream")
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    return right - left, bottom - top


def is_plain(page: Any) -> bool:
    """Whether a page has tiles side by side, none left out, in a form that every reader decodes alike."""
    rgb = page.samplesperpixel == 3 and page.dtype == np.uint8 and page.planarconfig == 1
    coloured = page.photometric == _RGB or (page.photometric == _YCBCR and page.compression == _JPEG)
    return bool(page.is_tiled and rgb and coloured and page.compression in _PLAIN and all(page.databytecounts))


def _paste(out: Pixels, pixels: Pixels, x: int, y: int) -> None:
    """Put pixels into a picture, with their top left at a place that may be outside."""
    height, width = out.shape[:2]
    top, left, bottom, right = max(0, y), max(0, x), min(height, y + len(pixels)), min(width, x + pixels.shape[1])
    if bottom > top and right > left:
        out[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
