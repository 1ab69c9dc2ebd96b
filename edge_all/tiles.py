"""Frames much larger than a field: cut into tiles of a field each at the scale that a bundle was trained at.

The scale is that of the graph's input (`Bundle.um_per_px`). A tile is as many pixels of the frame as show the same part
of a smear. Tiles cover the whole frame; where it is no whole number of them, neighbours overlap evenly. A tile in which
hardly anything lies is not answered.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_all import image, parallel
from edge_all.bundle import RED_CELL_UM, Bundle
from edge_all.classifier import Classifier
from edge_all.errors import EdgeAllError, ImageError
from edge_all.prediction import Prediction

EMPTY = "empty"
"""What stands in the place of a status for a tile that was not answered."""

_DIFFERENT = 25
_LEAST = 0.01
"""A tile is empty if fewer of its pixels differ in green by `_DIFFERENT` of 255 from the tile's median: about the area
of two and a half red cells, or of one blast. Haemoglobin and stain both take up green. Of 175 fields of the public set
the emptiest has 14 %."""

_COARSEST = 0.5
"""Tiles are enlarged to the graph's input by two at most."""

_SPARE = 0.05
"""A frame may be this part of a tile larger than a whole number of tiles before there is one more."""

_SMALLEST = 0.8
"""A frame may be smaller than a tile, but no side less than this part of it."""

Pixels = npt.NDArray[np.uint8]


class Box(NamedTuple):
    """A rectangle of a frame, in its pixels; right and bottom are just outside."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Tile:
    """A tile and its answer.

    Attributes:
        box: Where it is.
        prediction: The answer; None for an empty tile.
    """

    box: Box
    prediction: Prediction | None

    @property
    def status(self) -> str:
        """As of its prediction, or `EMPTY`."""
        return self.prediction.status if self.prediction else EMPTY


@dataclass(frozen=True)
class Frame:
    """A frame and the answers to its tiles.

    Attributes:
        size: Its width and height, in pixels.
        tile: Width and height of a tile, in the frame's pixels.
        um_per_px: Micrometres that a pixel of the frame shows, as given or assumed.
        tiles: All tiles, line by line.
        ms: Time for all tiles, in milliseconds; without decoding.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    um_per_px: float
    tiles: tuple[Tile, ...]
    ms: float

    @property
    def statuses(self) -> Counter[str]:
        """How many tiles have each status; `EMPTY` is one of them."""
        return Counter(tile.status for tile in self.tiles)

    @property
    def labels(self) -> Counter[str]:
        """How many tiles with status ``ok`` have each label."""
        predictions = [tile.prediction for tile in self.tiles if tile.prediction]
        return Counter(answer.label for answer in predictions if answer.label and answer.status == "ok")


def tile_size(bundle: Bundle, um_per_px: float) -> tuple[int, int]:
    """Width and height of a field of the bundle, in pixels of a frame.

    Args:
        bundle: Whose graph is to answer.
        um_per_px: Micrometres that a pixel of the frame shows.

    Raises:
        EdgeAllError: The frame has too few pixels for what the graph looks at.
    """
    larger = bundle.um_per_px / um_per_px
    if larger < _COARSEST:
        raise EdgeAllError(
            f"at {um_per_px:.3g} um a pixel a red cell is {RED_CELL_UM / um_per_px:.1f} pixels across, and the bundle "
            f"was made with {RED_CELL_UM / bundle.um_per_px:.0f}: too coarse; give the true --scale or --cell, or take "
            "a higher magnification"
        )
    height, width = bundle.input_size
    return round(width * larger), round(height * larger)


def cut(size: tuple[int, int], tile: tuple[int, int]) -> list[Box]:
    """The tiles of a frame, line by line.

    Args:
        size: Width and height of the frame, in pixels.
        tile: Those of a tile.

    Raises:
        ImageError: The frame is much smaller than a tile.
    """
    if any(side < _SMALLEST * wanted for side, wanted in zip(size, tile, strict=True)):
        raise ImageError(
            f"{size[0]}x{size[1]} pixels are less than a field, which has {tile[0]}x{tile[1]} at this scale; "
            "give the true --scale or --cell, or classify it without --tile"
        )
    columns, rows = (_spans(side, wanted) for side, wanted in zip(size, tile, strict=True))
    return [Box(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(side: int, wanted: int) -> list[tuple[int, int]]:
    """Begin and end of tiles that are spread evenly along a side."""
    count = max(1, math.ceil(side / wanted - _SPARE))
    wanted = min(wanted, side)
    begins = [round((side - wanted) * (k / (count - 1) if count > 1 else 0.5)) for k in range(count)]
    return [(begin, begin + wanted) for begin in begins]


def is_empty(pixels: Pixels) -> bool:
    """Whether hardly anything lies in a tile, ``uint8 [H, W, 3]`` at the graph's scale."""
    green = Image.fromarray(np.ascontiguousarray(pixels[..., 1]))
    counts = np.array(green.histogram())  # a median by sorting takes ten times as long
    size, below = counts.sum(), counts.cumsum()
    median = (np.searchsorted(below, (size + 1) // 2) + np.searchsorted(below, size // 2 + 1)) / 2
    return bool(counts[np.abs(np.arange(256) - median) > _DIFFERENT].sum() < _LEAST * size)


def answer(classifier: Classifier, pixels: Pixels, um_per_px: float | None = None, threads: int = 1) -> Frame:
    """Cut a frame into tiles and answer each.

    Beside the frame, only the tiles that are in hand take memory: one for each thread.

    Args:
        classifier: Loaded with as many streams as there are threads.
        pixels: The frame, ``uint8 [h, w, 3]``, at its own size.
        um_per_px: Micrometres that one of its pixels shows; None takes it to have the scale of the graph's input.
        threads: How many tiles are answered at the same time.

    Raises:
        ImageError: The frame is much smaller than a tile.
        EdgeAllError: As `tile_size`.
        TargetError: The engine failed, or answered with a value that is not a number.
    """
    start, bundle = time.perf_counter(), classifier.bundle
    um_per_px = um_per_px or bundle.um_per_px
    height, width = bundle.input_size
    size = (pixels.shape[1], pixels.shape[0])
    tile = tile_size(bundle, um_per_px)

    def classify(box: Box) -> Tile:
        room = np.empty((height, width, 3), np.uint8)
        own = pixels[box.top : box.bottom, box.left : box.right]
        if own.shape == room.shape:
            room[...] = own
        else:
            image.fit(Image.fromarray(np.ascontiguousarray(own)), room)
        return Tile(box, None if is_empty(room) else classifier.classify_pixels(room))

    tiles = tuple(parallel.each(classify, cut(size, tile), threads))
    return Frame(size, tile, um_per_px, tiles, (time.perf_counter() - start) * 1e3)
