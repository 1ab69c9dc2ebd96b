"""``edge-all classify --tile``: frames larger than a field, answered tile by tile."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from edge_all.cli import options
from edge_all.cli.output import json_text, tell
from edge_all.cli.text import cell, shown
from edge_all.errors import EdgeAllError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from edge_all.bundle import Bundle
    from edge_all.classifier import Classifier
    from edge_all.drift import State
    from edge_all.progress import Progress
    from edge_all.tiles import Frame


class Source(NamedTuple):
    """Something to classify.

    Attributes:
        name: What it is called in the answer.
        content: A file, or an image file's bytes.
        error: Why it cannot be classified, where that is known already; else empty.
    """

    name: str
    content: Path | bytes
    error: str = ""


@dataclass
class Counts:
    """What became of all images.

    Attributes:
        answered: How many images were answered.
        statuses: How many images, or tiles, have each status.
        squeezed: How many images are far larger than a field and were answered whole.
        runs: How many runs of neighbouring images were judged together.
        drifted: How many of them look unlike the training images.
        worst: The one that does so most; None where none does.
        unit: What `statuses` counts, before a number; empty for images.
        told: The statuses that are told at the end.
    """

    answered: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    squeezed: int = 0
    runs: int = 0
    drifted: int = 0
    worst: State | None = None
    unit: str = ""
    told: tuple[str, ...] = ("ok", "refer", "unfamiliar")


class Wanted(NamedTuple):
    """What is asked for.

    Attributes:
        um_per_px: Micrometres that a pixel of the frames or slides shows; None where it is not known.
        out: Folder for what is written of each; None for none.
        whole_slides: Whether they are slides, of which a part is in memory at a time.
    """

    um_per_px: float | None
    out: Path | None
    whole_slides: bool = False


Answered = Callable[[str, "Frame", float, tuple[Path, ...]], None]
"""Writes the answer for a frame of this name: with its milliseconds, and the files that were written."""

Refused = Callable[[str, str], None]
"""Writes the name of what cannot be classified, and why."""


def wanted(
    tile: bool, scale: float | None, cell_px: float | None, out: Path | None, inputs: Sequence[str]
) -> Wanted | None:
    """What the options ask for; None where frames are to be answered whole.

    Raises:
        click.UsageError: They contradict each other.
    """
    named = [name for name, value in (("--scale", scale), ("--cell", cell_px)) if value is not None]
    if not tile and not out and named:
        raise click.UsageError(
            f"{named[0]} is for frames that are cut into tiles: add --tile; and for slides: add --out"
        )
    um_per_px = options.um_per_px(scale, cell_px)
    if not tile and not out:
        return None
    if out:
        _check_out(out, inputs)
    return Wanted(um_per_px, out, whole_slides=not tile)


def _check_out(out: Path, inputs: Sequence[str]) -> None:
    """Refuse a folder whose pictures would be taken for frames the next time."""
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"--out {out}: is a file; wanted a folder")
    for text in inputs:
        named = Path(text).absolute()
        folder = named if named.is_dir() else named.parent
        if out.resolve() == folder.resolve() or (named.is_dir() and out.resolve().is_relative_to(named.resolve())):
            raise click.UsageError(
                f"--out {out}: its pictures would lie among the frames in {folder} and be taken for frames; "
                "wanted another folder"
            )


def classify(
    classifier: Classifier,
    sources: Sequence[Source],
    wanted: Wanted,
    threads: int,
    writer: tuple[Answered, Refused],
    progress: Progress,
) -> Counts:
    """Answer each frame, tile by tile.

    Raises:
        EdgeAllError: The frames are too coarse for the bundle, or a file cannot be written.
    """
    from edge_all import tiles
    from edge_all.errors import ImageError

    counts = Counts(unit="tiles: ", told=("ok", "refer", "unfamiliar", tiles.EMPTY))
    answered, refused = writer
    names: set[str] = set()
    if wanted.um_per_px is None:
        _tell_scale(classifier)
    else:
        tiles.tile_size(classifier.bundle, wanted.um_per_px)
        _tell_unstated(classifier.bundle)
    for i, source in enumerate(sources, 1):
        start = time.perf_counter()
        try:
            if source.error:
                raise ImageError(source.error)
            frame, files = _frame(classifier, source, wanted, threads, names)
        except ImageError as error:
            refused(source.name, str(error))
        else:
            counts.answered += 1
            counts.statuses += frame.statuses
            answered(source.name, frame, (time.perf_counter() - start) * 1e3, files)
        progress(i, len(sources))
    return counts


def _frame(
    classifier: Classifier, source: Source, wanted: Wanted, threads: int, names: set[str]
) -> tuple[Frame, tuple[Path, ...]]:
    """Answer one frame, whose pixels are gone when the next is decoded; write what is wanted of it."""
    from edge_all import image, tiles

    content = source.content
    pixels = image.decode_whole(content if isinstance(content, bytes) else image.read_bytes(content))
    frame = tiles.answer(classifier, pixels, wanted.um_per_px, threads)
    if wanted.out is None:
        return frame, ()
    return frame, _write(wanted.out, source, names, frame, pixels, classifier)


def _tell_scale(classifier: Classifier) -> None:
    """Say what is taken for granted where no scale was given."""
    from edge_all.bundle import RED_CELL_UM

    bundle = classifier.bundle
    height, width = bundle.input_size
    tell(
        f"no scale was given: a red cell is taken to be {RED_CELL_UM / bundle.um_per_px:.0f} pixels across, and a tile "
        f"has {width}x{height} pixels; if that is not so, give --cell or --scale"
    )


def _tell_unstated(bundle: Bundle) -> None:
    """Say what is taken for granted of a bundle whose record does not state its scale."""
    from edge_all.bundle import RED_CELL_UM

    if "scale" not in bundle.record:
        tell(
            f"{bundle.name} does not state its scale: a red cell in its training images is taken to be "
            f"{RED_CELL_UM / bundle.um_per_px:.0f} pixels across, as in the public leukaemia set; if it is not, export "
            "the bundle again with --cell or --scale"
        )


def _write(
    out: Path, source: Source, names: set[str], frame: Frame, pixels: npt.NDArray[np.uint8], classifier: Classifier
) -> tuple[Path, ...]:
    """Write a frame's picture and GeoJSON; two frames of one name get files of two names."""
    from edge_all import files, tile_output

    stem = base = Path(source.name).name if isinstance(source.content, Path) else "stdin"
    number = 1
    while stem in names:
        number += 1
        stem = f"{base}-{number}"
    names.add(stem)
    classes = classifier.bundle.classes
    picture, shapes = out / f"{stem}.tiles.png", out / f"{stem}.geojson"
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.write(picture, tile_output.draw(frame, pixels, classes))
        files.write(shapes, tile_output.geojson(frame, classes))
    except OSError as error:
        raise EdgeAllError(f"--out {out}: cannot be written ({error.strerror or error}); give another folder") from None
    return picture, shapes


def open_writer(form: str | None, classifier: Classifier, write: Callable[[str], None]) -> tuple[Answered, Refused]:
    """Begin to write frames.

    Args:
        form: ``json``, ``csv``, or None for a table.
        classifier: What gives the answers.
        write: Prints a line of them.
    """
    return {None: _table, "json": _json, "csv": _csv}[form](classifier, write)


def _json(classifier: Classifier, write: Callable[[str], None]) -> tuple[Answered, Refused]:
    def answered(name: str, frame: Frame, ms: float, files: tuple[Path, ...]) -> None:
        counts: dict[str, object] = {"all": len(frame.tiles)}
        counts |= {status: frame.statuses[status] for status in _STATUSES}
        counts["labels"] = {label: frame.labels[label] for label in classifier.bundle.classes}
        answer: dict[str, object] = {"file": name, "tiles": counts, "width": frame.size[0], "height": frame.size[1]}
        answer |= {"tile_width": frame.tile[0], "tile_height": frame.tile[1], "um_per_px": frame.um_per_px}
        answer |= {"target": classifier.target, "precision": classifier.precision, "ms": round(ms, 3)}
        if files:
            answer["files"] = [str(file) for file in files]
        write(json_text(answer))

    return answered, lambda name, error: write(json_text({"file": name, "error": error}))


def _csv(classifier: Classifier, write: Callable[[str], None]) -> tuple[Answered, Refused]:
    classes = classifier.bundle.classes
    engine = classifier.target, classifier.precision

    def line(*cells: str) -> None:
        write(",".join(map(cell, cells)))

    def answered(name: str, frame: Frame, ms: float, files: tuple[Path, ...]) -> None:
        counts = [len(frame.tiles), *(frame.statuses[status] for status in _STATUSES)]
        labels = [frame.labels[label] for label in classes]
        line(name, *map(str, [*counts, *labels, *frame.tile]), f"{frame.um_per_px:.6g}", *engine, f"{ms:.3f}", "")

    def refused(name: str, error: str) -> None:
        line(name, *[""] * (len(_STATUSES) + len(classes) + 4), *engine, "", error)

    numbers = [f"n_{name}" for name in classes]
    line("file", "tiles", *_STATUSES, *numbers, "tile_width", "tile_height", "um_per_px", "target", "precision",
         "ms", "error")  # fmt: skip
    return answered, refused


_STATUSES = ("ok", "refer", "unfamiliar", "empty")


def _table(classifier: Classifier, write: Callable[[str], None]) -> tuple[Answered, Refused]:
    def answered(name: str, frame: Frame, ms: float, files: tuple[Path, ...]) -> None:
        labels = [f"{shown(label)} {frame.labels[label]}" for label in classifier.bundle.classes]
        others = [f"{status} {frame.statuses[status]}" for status in _STATUSES[1:] if frame.statuses[status]]
        write(f"{', '.join(labels + others)} of {len(frame.tiles)} tiles  {ms:.1f} ms  {name}")

    def refused(name: str, error: str) -> None:
        write(f"-  {name}")
        tell(f"{name}: {error}")

    return answered, refused
