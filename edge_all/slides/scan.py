"""A slide read and answered, tile after tile, from where an earlier run was cut short."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edge_all import image, parallel
from edge_all.classifier import Classifier
from edge_all.progress import Progress
from edge_all.slides import grid as grids
from edge_all.slides.grid import Block, Grid, Pixels
from edge_all.slides.kept import SUFFIX, Answer, Answers, Kept
from edge_all.slides.reader import Slide, open_slide
from edge_all.slides.scale import scaled
from edge_all.tiles import is_empty


@dataclass(frozen=True)
class Scanned:
    """A slide that was answered.

    Attributes:
        size: Its width and height, in pixels of level 0.
        answers: To its tiles.
        overview: What it looks like, ``uint8 [h, w, 3]``; None where it has too many pixels to tell.
        resumed: How many of its tiles an earlier run had answered.
        kept: The file that keeps the answers; to be removed once they are written.
    """

    size: tuple[int, int]
    answers: Answers
    overview: Pixels | None
    resumed: int
    kept: Kept


def scan(
    path: Path, classifier: Classifier, out: Path, um_per_px: float | None, threads: int, progress: Progress
) -> Scanned:
    """Answer every tile of a slide.

    Beside the answers, only the blocks that are in hand take memory. Each thread reads a block and answers its tiles,
    one thread more than the engine has streams, so that one reads while the others answer.

    Args:
        path: The slide.
        classifier: Loaded with as many streams as there are threads.
        out: The folder for the file that keeps the answers until they are written.
        um_per_px: Micrometres that a pixel of level 0 shows; None takes what the slide says.
        threads: How many tiles are answered at the same time.
        progress: Counts tiles.

    Raises:
        ImageError: The slide cannot be read, or is damaged, or too small.
        EdgeAllError: Its scale is not known, or too coarse.
        OSError: The answers cannot be kept.
    """
    slide = open_slide(path)
    try:
        seen = grids.overview(slide)
        grid = grids.plan(slide, classifier.bundle, um_per_px, seen)
        kept = Kept(out / f"{path.name}{SUFFIX}", _identity(slide, grid, classifier))
        try:
            answers, resumed = _answer(slide, grid, classifier, kept, threads, progress)
        except BaseException:
            kept.close()
            raise
        return Scanned(slide.size, answers, seen, resumed, kept)
    finally:
        slide.close()


def _identity(slide: Slide, grid: Grid, classifier: Classifier) -> dict[str, object]:
    """What the answers depend on."""
    origin = classifier.origin()
    made = {name: origin[name] for name in ("bundle_digest", "version", "engine", "target", "precision")}
    laid = {"um_per_px": grid.um_per_px, "tiles": [grid.columns, grid.rows], "block": grid.block}
    return {"slide": slide.identity, **laid, **made}


def _answer(
    slide: Slide, grid: Grid, classifier: Classifier, kept: Kept, threads: int, progress: Progress
) -> tuple[Answers, int]:
    answers = Answers(grid, classifier.bundle.classes)
    done: set[int] = set()
    for number, rows in kept.answers(answers.classes):
        answers.add(rows)
        done.add(number)
    resumed = int((answers.statuses > 0).sum())
    count, total = resumed, int((~grid.glass).sum())
    progress(count, total)
    blocks = (block for block in grid.blocks() if block.number not in done)
    work = parallel.ahead(lambda block: (block.number, _block(slide, grid, block, classifier)), blocks, threads + 1)
    for number, rows in work:
        kept.add(number, rows)
        answers.add(rows)
        count += len(rows)
        progress(count, total)
    return answers, resumed


def _block(slide: Slide, grid: Grid, block: Block, classifier: Classifier) -> list[Answer]:
    """Read a block and answer its tiles; each kind of work is done for all of them before the next."""
    pixels = slide.read(grid.level, block.box)
    downsample = slide.downsamples[grid.level]
    rooms = np.empty((len(block.tiles), 1, *classifier.bundle.input_size, 3), np.uint8)
    for (column, row), (room,) in zip(block.tiles, rooms, strict=True):
        box = grid.box(column, row)
        left, top = round((box.left - block.box.left) / downsample), round((box.top - block.box.top) / downsample)
        width, height = scaled(box, downsample)
        own = pixels[top : top + height, left : left + width]
        if own.shape == room.shape:
            room[...] = own
        else:
            image.fit(Image.fromarray(np.ascontiguousarray(own)), room)
    empty = [is_empty(room) for (room,) in rooms]
    given = iter(
        classifier.classify_several_pixels([room for room, none in zip(rooms, empty, strict=True) if not none])
    )
    return [Answer(*place, None if none else next(given)) for place, none in zip(block.tiles, empty, strict=True)]
