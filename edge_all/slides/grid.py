"""Which tiles a slide has, at which level they are read, and which of them show bare glass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_all import tiles
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError, ImageError
from edge_all.slides.reader import Slide
from edge_all.tiles import Box

MOST_TILES = 4_000_000

OVERVIEW = 2048
"""The longer side of the overview, in pixels, at most."""

_BLOCK, _BLOCK_PIXELS = 8, 2048
"""Tiles, and pixels, a side of a block at most. It is read at once: a tile of the file that lies in several of ours is
then decoded once."""

_MOST_READ = 2_000_000_000
"""Pixels of the smallest level, up to which a slide has an overview."""

_BAND = 1 << 24
"""Pixels that are read at once for the overview."""

_GLASS_LEVEL, _GLASS_COLOUR = 200, 10
"""A pixel of the overview shows glass if no channel is below this level of 255, and none is that much above another.
Stained cells in a thin film are pinker even where a hundred of their pixels are one of the overview's."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """Neighbouring tiles, which are read at once.

    Attributes:
        number: Of all blocks of the slide.
        box: What is read, in pixels of level 0.
        tiles: Column and row of each tile that is looked at.
    """

    number: int
    box: Box
    tiles: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Grid:
    """The tiles of a slide.

    Attributes:
        um_per_px: Micrometres that a pixel of level 0 shows.
        level: The level that tiles are read at.
        tile: Width and height of a tile, in pixels of level 0, which need not be whole numbers.
        block: Tiles a side of a block.
        glass: ``bool [rows, columns]``: which tiles show bare glass in the overview.
    """

    um_per_px: float
    level: int
    tile: tuple[float, float]
    block: int
    glass: npt.NDArray[np.bool_]

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return int(self.glass.shape[1])

    @property
    def rows(self) -> int:
        """Tiles in a column."""
        return int(self.glass.shape[0])

    def box(self, column: int, row: int) -> Box:
        """A tile, in pixels of level 0."""
        width, height = self.tile
        return Box(
            *(round(n * side) for n, side in ((column, width), (row, height), (column + 1, width), (row + 1, height)))
        )

    def blocks(self) -> Iterator[Block]:
        """All blocks that have a tile to look at, line by line."""
        number, side = 0, self.block
        for row in range(0, self.rows, side):
            for column in range(0, self.columns, side):
                there = ~self.glass[row : row + side, column : column + side]
                own = tuple((column + int(x), row + int(y)) for y, x in np.argwhere(there))
                if own:
                    boxes = [self.box(*tile) for tile in own]
                    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
                    right, bottom = max(box.right for box in boxes), max(box.bottom for box in boxes)
                    yield Block(number, Box(left, top, right, bottom), own)
                number += 1


def plan(slide: Slide, bundle: Bundle, um_per_px: float | None, seen: Pixels | None) -> Grid:
    """Lay a grid over a slide, from its top left; what is less than a tile at the right and the bottom is left out.

    Args:
        slide: The slide.
        bundle: Whose graph is to answer.
        um_per_px: Micrometres that a pixel of level 0 shows, as given; None takes what the slide says.
        seen: Its `overview`.

    Raises:
        ImageError: The slide is smaller than a tile, or has more tiles than can be.
        EdgeAllError: Neither the slide nor the user says what its scale is, or it is too coarse.
    """
    um_per_px = um_per_px or slide.um_per_px
    if um_per_px is None:
        raise EdgeAllError("the slide does not say how many micrometres a pixel shows: give --scale, or --cell")
    level = min(
        range(len(slide.downsamples)),
        key=lambda k: (abs(math.log(um_per_px * slide.downsamples[k] / bundle.um_per_px)), k),
    )
    tiles.tile_size(bundle, um_per_px * slide.downsamples[level])  # raises an error where that is too coarse
    larger = bundle.um_per_px / um_per_px
    height, width = (side * larger for side in bundle.input_size)
    columns, rows = int(slide.size[0] // width), int(slide.size[1] // height)
    if not columns * rows:
        raise ImageError(
            f"{slide.size[0]}x{slide.size[1]} pixels are less than a field, which has {round(width)}x{round(height)} "
            f"at {um_per_px:.3g} um a pixel; give the true --scale or --cell"
        )
    if columns * rows > MOST_TILES:
        raise ImageError(f"it claims {slide.size[0]}x{slide.size[1]} pixels: {columns * rows} tiles, over {MOST_TILES}")
    block = min(_BLOCK, max(1, int(_BLOCK_PIXELS * slide.downsamples[level] / max(width, height))))
    return Grid(um_per_px, level, (width, height), block, _glass(seen, slide.size, (width, height), columns, rows))


def _glass(
    seen: Pixels | None, size: tuple[int, int], tile: tuple[float, float], columns: int, rows: int
) -> npt.NDArray[np.bool_]:
    """Which tiles show nothing but glass, ``bool [rows, columns]``."""
    if seen is None:
        return np.zeros((rows, columns), bool)
    darkest, brightest = seen.min(2).astype(np.int16), seen.max(2).astype(np.int16)
    shows = (darkest < _GLASS_LEVEL) | (brightest - darkest > _GLASS_COLOUR)
    counts = np.pad(shows.cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # of the pixels above and to the left
    edges = []
    for count, side, whole, length in ((columns, tile[0], size[0], seen.shape[1]), (rows, tile[1], size[1], len(seen))):
        at = np.arange(count + 1) * side * length / whole
        edges.append((np.floor(at[:-1]).astype(int), np.minimum(np.ceil(at[1:]).astype(int), length)))
    (left, right), (top, bottom) = edges
    inside = counts[bottom][:, right] - counts[top][:, right] - counts[bottom][:, left] + counts[top][:, left]
    return np.asarray(inside == 0)


def overview(slide: Slide) -> Pixels | None:
    """The whole slide, ``uint8 [h, w, 3]``, its longer side `OVERVIEW` pixels at most; None where none can be made.

    Raises:
        ImageError: The slide is damaged.
    """
    longest = max(slide.size)
    large = [k for k, downsample in enumerate(slide.downsamples) if longest / downsample >= OVERVIEW]
    level = large[-1] if large else 0
    downsample = slide.downsamples[level]
    if slide.size[0] * slide.size[1] / downsample**2 > _MOST_READ:
        return None
    factor = min(1.0, OVERVIEW / longest)
    width, height = (max(1, round(side * factor)) for side in slide.size)
    lines = max(1, int(_BAND * downsample**2 / slide.size[0] * factor))  # of the overview, that are read at once
    out = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, lines):
        bottom = min(height, top + lines)
        box = Box(0, round(top / factor), slide.size[0], min(slide.size[1], round(bottom / factor)))
        band = Image.fromarray(np.ascontiguousarray(slide.read(level, box)))
        out[top:bottom] = np.asarray(band.resize((width, bottom - top), Image.Resampling.BOX))
    return out
