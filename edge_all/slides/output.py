"""The answers to a slide as Parquet, GeoJSON, a picture and a summary."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_all import files, input_check, overlay, parallel, tile_output
from edge_all.classifier import ORIGIN
from edge_all.slides.grid import Pixels
from edge_all.slides.kept import STATUSES, Answers
from edge_all.slides.scan import Scanned
from edge_all.tiles import EMPTY

GLASS = "glass"
"""What is counted for a tile that shows bare glass in the overview, and was not looked at."""

_MOST_ROWS = 100_000
"""Of a group of rows in Parquet."""


def write(out: Path, name: str, scanned: Scanned, origin: Mapping[str, object]) -> tuple[dict[str, object], list[Path]]:
    """Write all files of a slide, each whole or not at all, the summary last.

    Args:
        out: The folder.
        name: Of the slide's file; the names of the files begin with it.
        scanned: The answers.
        origin: What answered (`edge_all.classifier.Classifier.origin`).

    Returns:
        The summary, and the files.

    Raises:
        OSError: A file cannot be written.
    """
    answers = scanned.answers
    written = [out / f"{name}.{ending}" for ending in ("parquet", "geojson", "overview.png", "summary.json")]
    table, shapes, picture, summed = written

    def write_table() -> None:
        with files.replacing(table) as aside:
            _parquet(aside, name, answers, origin)

    def write_shapes() -> None:
        with files.replacing(shapes) as aside:
            _geojson(aside, answers)

    def write_picture() -> None:
        files.write(picture, _picture(scanned))

    parallel.each(lambda write_one: write_one(), (write_shapes, write_picture, write_table), 2)
    summary = {"file": name, **_summary(scanned), **origin}
    files.write(summed, json.dumps(summary, ensure_ascii=False, indent=1) + "\n")
    return summary, written


def _summary(scanned: Scanned) -> dict[str, object]:
    """Counts, and the share of each class among the tiles that are answered with ``ok``."""
    answers, grid = scanned.answers, scanned.answers.grid
    counts = _counts(answers)
    labels = _labels(answers)
    named = sum(labels.values())
    return {
        "width": scanned.size[0],
        "height": scanned.size[1],
        "um_per_px": grid.um_per_px,
        "level": grid.level,
        "tile_width": round(grid.tile[0], 3),
        "tile_height": round(grid.tile[1], 3),
        "tiles": {"all": grid.rows * grid.columns, **counts, "labels": labels},
        "shares": {label: round(100 * count / named, 2) if named else None for label, count in labels.items()},
        "resumed": scanned.resumed,
    }


def _counts(answers: Answers) -> dict[str, int]:
    """How many tiles have each status; those out of focus are among the unfamiliar ones."""
    numbers = np.bincount(answers.statuses.ravel(), minlength=len(STATUSES)).tolist()
    counts = {status: numbers[STATUSES.index(status)] for status in ("ok", "refer", "unfamiliar")}
    counts[input_check.OUT_OF_FOCUS] = Counter(answers.reasons.values())[input_check.OUT_OF_FOCUS]
    return {**counts, EMPTY: numbers[STATUSES.index(EMPTY)], GLASS: numbers[0]}


def _labels(answers: Answers) -> dict[str, int]:
    """How many tiles with status ``ok`` have each label."""
    tops = answers.probabilities[answers.statuses == STATUSES.index("ok")].argmax(1)
    return dict(zip(answers.classes, np.bincount(tops, minlength=len(answers.classes)).tolist(), strict=True))


def _parquet(path: Path, name: str, answers: Answers, origin: Mapping[str, object]) -> None:
    """A row for each tile that was answered, in pixels of level 0."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tiles = answers.answered
    schema = _table(name, answers, tiles[:0], origin).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for begin in range(0, len(tiles), _MOST_ROWS):
            table: pa.Table = _table(name, answers, tiles[begin : begin + _MOST_ROWS], origin)
            writer.write_table(table)


def _table(name: str, answers: Answers, tiles: np.ndarray, origin: Mapping[str, object]) -> Any:
    """The rows of some tiles, given by row and column, ``int64 [N, 2]``."""
    import pyarrow as pa

    grid = answers.grid
    boxes = np.array([grid.box(column, row) for row, column in tiles.tolist()], np.int64).reshape(-1, 4)
    at = tuple(tiles.T)
    statuses, shares = answers.statuses[at], answers.probabilities[at]
    tops = [answers.classes[k] for k in shares.argmax(1)]
    labels = [
        None if status == STATUSES.index("unfamiliar") else top for status, top in zip(statuses, tops, strict=True)
    ]
    reasons = [answers.reasons.get((column, row)) for row, column in tiles.tolist()]

    def repeated(value: object) -> Any:
        return pa.array([value] * len(tiles), pa.float64() if isinstance(value, float) else pa.string())

    def text(values: Any) -> Any:
        return pa.array(list(values), pa.string())

    columns: dict[str, Any] = {"slide": repeated(name)}
    columns |= {side: pa.array(boxes[:, k]) for k, side in enumerate(("x", "y"))}
    columns |= {"width": pa.array(boxes[:, 2] - boxes[:, 0]), "height": pa.array(boxes[:, 3] - boxes[:, 1])}
    columns |= {"level": pa.array(np.full(len(tiles), grid.level, np.int32))}
    columns |= {"label": text(labels), "status": text(STATUSES[k] for k in statuses), "top": text(tops)}
    columns |= {f"p_{label}": pa.array(shares[:, k]) for k, label in enumerate(answers.classes)}
    columns |= {"unfamiliarity": pa.array(answers.unfamiliarity[at], from_pandas=True), "reason": text(reasons)}
    columns |= {field: repeated(origin[field]) for field in ORIGIN}
    return pa.table(columns)


def _geojson(path: Path, answers: Answers) -> None:
    """The answered tiles, written one by one: a slide may have hundreds of thousands."""
    between = "\n"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for tile in answers.tiles():
            feature = tile_output.feature(tile, answers.classes, kind="tile")
            file.write(between + json.dumps(feature, ensure_ascii=False))
            between = ",\n"
        file.write("\n]}\n")


def _picture(scanned: Scanned) -> bytes:
    """The overview with each tile in the colour of its class, as a PNG file."""
    answers, seen = scanned.answers, scanned.overview
    if seen is None:
        factor = 1024 / max(scanned.size)
        seen = np.full((*(max(1, round(side * factor)) for side in scanned.size[::-1]), 3), 255, np.uint8)
    colours = {label: overlay.rgb(colour) for label, colour in overlay.colours(answers.classes).items()}
    by_top = np.array([colours[label] for label in answers.classes], np.uint8)[answers.probabilities.argmax(2)]
    shown = answers.statuses == STATUSES.index("ok")
    patches = np.where(shown[..., None], by_top, np.array(overlay.rgb(overlay.GREY), np.uint8))
    weight = np.array([0.0, 0.5, 0.25, 0.35, 0.0])[answers.statuses]
    counts = _labels(answers) | _counts(answers)
    return overlay.mosaic(_covered(seen, scanned), patches, weight, counts, answers.classes)


def _covered(seen: Pixels, scanned: Scanned) -> Pixels:
    """The part of the overview that the grid covers."""
    grid = scanned.answers.grid
    width, height = (
        max(1, round(length * count * side / whole))
        for length, count, side, whole in zip(
            seen.shape[1::-1], (grid.columns, grid.rows), grid.tile, scanned.size, strict=True
        )
    )
    return seen[:height, :width]
