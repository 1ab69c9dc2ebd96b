"""Small slides in the files that scanners and image servers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from helpers_bundle import SIZE, colour_picture

HEIGHT, WIDTH = SIZE
GLASS = 244

CHANNELS: tuple[tuple[int | None, ...], ...] = tuple(
    tuple(None if (row + column) % 5 == 4 else (row * 3 + column) % 3 for column in range(11)) for row in range(9)
)
"""The strongest channel of each tile of `picture`; None is glass."""


def picture(times: int = 1) -> np.ndarray:
    """Tiles as `CHANNELS` says, ``uint8 [9 H, 11 W, 3]``, each so many times as large as the colour bundle's fields."""
    rows, columns = len(CHANNELS), len(CHANNELS[0])
    pixels = np.full((rows * HEIGHT, columns * WIDTH, 3), GLASS, np.uint8)
    for row, line in enumerate(CHANNELS):
        for column, channel in enumerate(line):
            if channel is not None:
                own = colour_picture(channel, seed=len(line) * row + column)
                pixels[row * HEIGHT : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH] = np.asarray(own)
    return pixels.repeat(times, 0).repeat(times, 1)


def write_slide(
    path: Path, pixels: np.ndarray, um_per_px: float | None, *, ome: bool = False, levels: int = 2, tile: int = 64
) -> Path:
    """A pyramidal TIFF, each level half as large as the one before.

    Args:
        path: The file.
        pixels: Level 0, ``uint8 [h, w, 3]``.
        um_per_px: Micrometres that one of its pixels shows; None says nothing about it.
        ome: Whether smaller levels stand below the first page, and metadata in XML, as in OME-TIFF.
        levels: How many there are.
        tile: Height and width of the file's tiles.
    """
    options: dict[str, Any] = {"tile": (tile, tile), "photometric": "rgb", "compression": "deflate"}
    dots: dict[str, Any] = (
        {} if um_per_px is None else {"resolution": (1e4 / um_per_px,) * 2, "resolutionunit": "CENTIMETER"}
    )
    named = {"axes": "YXS", "PhysicalSizeX": um_per_px, "PhysicalSizeY": um_per_px} if ome and um_per_px else None
    with tifffile.TiffWriter(path, ome=ome) as file:
        file.write(pixels, subifds=levels - 1 if ome else 0, metadata=named, **options, **dots)
        for level in range(1, levels):
            file.write(_half(pixels, 2**level), subfiletype=1, metadata=None, **options)
    return path


def write_svs(path: Path, pixels: np.ndarray, um_per_px: float, *, transformed: bool) -> Path:
    """A file as Aperio's scanners write it: JPEG tiles of two levels, and a thumbnail in strips between them.

    Args:
        path: The file.
        pixels: Level 0, ``uint8 [h, w, 3]``.
        um_per_px: Micrometres that one of its pixels shows.
        transformed: Whether the colours are stored as YCbCr, those of four pixels as one; else as RGB.
    """
    height, width = pixels.shape[:2]
    size = f"{width}x{height} [0,0 {width}x{height}] (64x64)"
    told = f"Aperio Image Library v11.2.1\r\n{size} JPEG/RGB Q=90|AppMag = 40|MPP = {um_per_px}"
    stored = {"level": 90} if transformed else {"level": 90, "outcolorspace": "rgb"}
    options: dict[str, Any] = {"compression": "jpeg", "photometric": "rgb", "metadata": None}
    tiles = options | {"tile": (64, 64), "compressionargs": stored} | ({"subsampling": (2, 2)} if transformed else {})
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, description=told, **tiles)
        file.write(_half(pixels, 8), description=told, rowsperstrip=16, **options)
        file.write(_half(pixels, 2), description=told.replace("(64", "-> (64"), **tiles)
    return path


def _half(pixels: np.ndarray, times: int) -> np.ndarray:
    height, width = (side // times * times for side in pixels.shape[:2])
    parts = pixels[:height, :width].reshape(height // times, times, width // times, times, 3)
    return np.asarray(parts.mean((1, 3)).round(), np.uint8)
