"""The grid's results: one CSV, a line a cell, appended as cells are finished; and each cell's held-out answers."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_all.errors import StudyError

from . import settings

FILE = "cells.csv"

Row = dict[str, Any]
"""A line of the table; figures are numbers, what is missing is an empty string."""

_WORDS = ("backbone", "tap", "selector", "classifier", "protocol", "setting")


@dataclass(frozen=True, order=True)
class Cell:
    """One pipeline under one split protocol."""

    backbone: str
    tap: str
    selector: str
    classifier: str
    protocol: str

    @property
    def key(self) -> str:
        """For file names."""
        return "-".join(astuple(self)).replace(":", "_")


def cell(row: Row) -> Cell:
    """Whose line this is."""
    return Cell(*(row[name] for name in _WORDS[:5]))


def read(folder: Path) -> list[Row]:
    """All finished cells. A last line that was cut short by a kill is no cell, and is taken away.

    Raises:
        StudyError: The file is no such table.
    """
    path = folder / FILE
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    rows = list(csv.DictReader(io.StringIO(whole.decode("utf-8"))))
    if rows and not set(_WORDS) <= set(rows[0]):
        raise StudyError(f"{path}: is no table of a study; give another --out")
    return [{name: _value(name, text) for name, text in row.items()} for row in rows]


def append(folder: Path, rows: Sequence[Row]) -> None:
    """Add finished cells, on the disk before this returns."""
    path = folder / FILE
    fresh = not path.exists() or not path.stat().st_size
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(_csv(rows, header=fresh))
        file.flush()
        os.fsync(file.fileno())


def rewrite(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace the table by these rows, in the order of their names; returns them so."""
    ordered = sorted(rows, key=cell)
    settings.write(folder / FILE, _csv(ordered, header=True).removesuffix("\n"))
    return ordered


def ranking(rows: Sequence[Row]) -> list[Row]:
    """Pipelines under ``block`` (or the only protocol there is), the most accurate first, at a tie the cheapest.

    Raises:
        StudyError: There are none.
    """
    protocols = {row["protocol"] for row in rows}
    if not rows:
        raise StudyError("the study has no finished cell; run edge-all study with the same --out to its end")
    judged = "block" if "block" in protocols else sorted(protocols)[0]
    own = [row for row in rows if row["protocol"] == judged]
    return sorted(own, key=lambda row: (-row["accuracy"], float(row["graph_ms"] or 0), cell(row)))


def save_answers(folder: Path, cell: Cell, probabilities: np.ndarray) -> None:
    """Keep a cell's held-out probabilities ``[N, K]``, in the order of the data set's images."""
    path = folder / "answers" / f"{cell.key}.npy"
    path.parent.mkdir(exist_ok=True)
    aside = path.with_suffix(".new.npy")
    np.save(aside, probabilities.astype(np.float32), allow_pickle=False)
    os.replace(aside, path)


def answers(folder: Path, cell: Cell) -> np.ndarray:
    """What `save_answers` kept."""
    return np.asarray(np.load(folder / "answers" / f"{cell.key}.npy", allow_pickle=False), np.float64)


def _csv(rows: Sequence[Row], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _value(name: str, text: str) -> Any:
    if name == "setting":
        return json.loads(text)
    if name in _WORDS or not text:
        return text
    return int(text) if text.isdigit() else float(text)


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict) else value
