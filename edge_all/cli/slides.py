"""``edge-all classify SLIDE --out DIR``: whole slides, field by field."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_all.cli.output import json_text, tell
from edge_all.cli.text import cell, shown
from edge_all.cli.tiled import Counts, Source, Wanted
from edge_all.errors import EdgeAllError

if TYPE_CHECKING:
    from edge_all.classifier import Classifier
    from edge_all.progress import Progress

_COUNTS = ("ok", "refer", "unfamiliar", "out of focus", "empty", "glass")

Answered = Callable[[dict[str, Any]], None]
"""Writes the summary of a slide."""


def classify(
    classifier: Classifier,
    sources: Sequence[Source],
    wanted: Wanted,
    threads: int,
    form: str | None,
    write: Callable[[str], None],
    progress: Progress,
) -> Counts:
    """Answer each slide, and write its files.

    Raises:
        EdgeAllError: The extra is missing, the scale of no slide is known, or a file cannot be written.
    """
    from edge_all.errors import ImageError
    from edge_all.slides import reader

    assert wanted.out
    reader.check_extra()
    counts = Counts(unit="tiles: ", told=("ok", "refer", "unfamiliar", "empty", "glass"))
    columns = ["file", "tiles", *_COUNTS, *(f"n_{label}" for label in classifier.bundle.classes), *_FIELDS, "error"]
    if form == "csv":
        write(",".join(map(cell, columns)))
    for name, content, error in sources:
        begun = time.perf_counter()
        try:
            if error or isinstance(content, bytes):
                raise ImageError(error or "a slide is read from its file; give its name")
            summary = _slide(classifier, content, wanted.out, wanted.um_per_px, threads, progress)
        except ImageError as refusal:
            _refuse(name, str(refusal), form, columns, write)
            continue
        counts.answered += 1
        counts.statuses += Counter({status: summary["tiles"][status] for status in counts.told})
        _write(summary | {"file": name, "ms": round(1e3 * (time.perf_counter() - begun), 3)}, form, columns, write)
    return counts


def _slide(
    classifier: Classifier, path: Path, out: Path, um_per_px: float | None, threads: int, progress: Progress
) -> dict[str, Any]:
    """Answer one slide; return its summary, with the names of its files."""
    from edge_all.slides import output
    from edge_all.slides.scan import scan

    try:
        out.mkdir(parents=True, exist_ok=True)
        scanned = scan(path, classifier, out, um_per_px, threads, progress)
        if scanned.resumed:
            tell(f"{path.name}: {scanned.resumed} tiles were answered before; going on from there")
        summary, files = output.write(out, path.name, scanned, classifier.origin())
        scanned.kept.close(remove=True)
    except OSError as error:
        raise EdgeAllError(f"--out {out}: cannot be written ({error.strerror or error}); give another folder") from None
    return summary | {"files": [str(file) for file in files]}


_FIELDS = ("width", "height", "tile_width", "tile_height", "um_per_px", "level", "target", "precision", "ms")


def _write(summary: Mapping[str, Any], form: str | None, columns: Sequence[str], write: Callable[[str], None]) -> None:
    tiles: Mapping[str, Any] = summary["tiles"]
    if form == "json":
        write(json_text(summary))
    elif form == "csv":
        named = {f"n_{label}": count for label, count in tiles["labels"].items()}
        values = {**summary, **tiles, **named, "tiles": tiles["all"], "error": ""}
        write(",".join(cell(str(values[column])) for column in columns))
    else:
        labels = [f"{shown(label)} {count}" for label, count in tiles["labels"].items()]
        others = [f"{status} {tiles[status]}" for status in _COUNTS[1:] if tiles[status]]
        write(f"{', '.join(labels + others)} of {tiles['all']} tiles  {summary['ms'] / 1e3:.1f} s  {summary['file']}")


def _refuse(name: str, error: str, form: str | None, columns: Sequence[str], write: Callable[[str], None]) -> None:
    if form == "json":
        write(json_text({"file": name, "error": error}))
    elif form == "csv":
        write(",".join(cell({"file": name, "error": error}.get(column, "")) for column in columns))
    else:
        write(f"-  {name}")
        tell(f"{name}: {error}")
