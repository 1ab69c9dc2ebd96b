"""Results of the grid: a CSV with a line a cell, appended as cells are finished, and each cell's probabilities."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

import numpy as np

from edge_all import files, protocols
from edge_all.errors import StudyError

from ..classifiers import Setting
from .metrics import Scores
from .store import write

FILE = "cells.csv"


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

    @property
    def title(self) -> str:
        """The pipeline, for readers."""
        return f"{self.backbone}, {self.selector}, {self.classifier}"

    def under(self, protocol: str) -> Cell:
        """The same pipeline under another protocol."""
        return replace(self, protocol=protocol)


@dataclass(frozen=True)
class Error:
    """The 95 % intervals of a cell (`edge_all.intervals`), each a lower and an upper limit.

    Attributes:
        accuracy: Of the accuracy, in percent.
        behind: Of how many percentage points more the best pipeline under the same protocol has, on the same images.
    """

    accuracy: tuple[float, float]
    behind: tuple[float, float]


@dataclass(frozen=True)
class Row:
    """A finished cell: a line of the table.

    Attributes:
        cell: Which pipeline, under which protocol.
        setting: The classifier's hyper-parameters that most folds chose.
        features: How many features the selector kept.
        scores: Metrics of the held-out answers.
        images: How many were answered.
        fit_s: Seconds to fit the heads of all folds.
        macs: Multiply-accumulates of the backbone up to the tap, for one image; None until they are filled in.
        graph_ms: Median time of backbone and head for one image, in milliseconds; None until it was measured.
        error: How far the accuracy may be off; None until it is filled in.
    """

    cell: Cell
    setting: Setting
    features: int
    scores: Scores
    images: int
    fit_s: float
    macs: int | None = None
    graph_ms: float | None = None
    error: Error | None = None

    @property
    def tied(self) -> bool:
        """Whether its accuracy is not told from that of the best pipeline under its protocol."""
        return self.error is not None and self.error.behind[0] <= 0


def read(folder: Path) -> list[Row]:
    """All finished cells. A last line that a kill cut short is removed from the file.

    Raises:
        StudyError: The file is no such table.
    """
    path = folder / FILE
    if not path.exists():
        return []
    content = path.read_bytes()
    whole_lines = content[: content.rfind(b"\n") + 1]
    if whole_lines != content:
        os.truncate(path, len(whole_lines))
    lines = csv.DictReader(io.StringIO(whole_lines.decode("utf-8")), restkey="")
    try:
        return [_from_line(line) for line in lines]
    except (KeyError, TypeError, ValueError):
        raise StudyError(f"{path}: is no table of a study; give another --out") from None


def append(folder: Path, rows: Sequence[Row]) -> None:
    """Add finished cells; they are on the disk when this returns."""
    path = folder / FILE
    fresh = not path.exists() or not path.stat().st_size
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(_to_csv(rows, header=fresh))
        file.flush()
        os.fsync(file.fileno())


def rewrite(folder: Path, rows: Sequence[Row]) -> list[Row]:
    """Replace the table by these rows, sorted by cell; returns them sorted."""
    ordered = sorted(rows, key=lambda row: row.cell)
    write(folder / FILE, _to_csv(ordered, header=True).removesuffix("\n"))
    return ordered


def ranking(rows: Sequence[Row]) -> list[Row]:
    """Pipelines under the headline protocol, the most accurate first, at a tie the fastest.

    Raises:
        StudyError: There are none.
    """
    if not rows:
        raise StudyError("the study has no finished cell; run edge-all study with the same --out to its end")
    ranked_under = protocols.headline(row.cell.protocol for row in rows)
    comparable = [row for row in rows if row.cell.protocol == ranked_under]
    return sorted(comparable, key=lambda row: (-row.scores.accuracy, row.graph_ms or 0.0, row.cell))


def save_probabilities(folder: Path, cell: Cell, probabilities: np.ndarray) -> None:
    """Store a cell's held-out probabilities ``[N, K]``, in the order of the data set's images."""
    path = _probabilities_file(folder, cell)
    path.parent.mkdir(exist_ok=True)
    with files.replacing(path) as aside:
        np.save(aside, probabilities.astype(np.float32), allow_pickle=False)


def probabilities(folder: Path, cell: Cell) -> np.ndarray:
    """A cell's held-out probabilities, ``float64 [N, K]``."""
    return np.asarray(np.load(_probabilities_file(folder, cell), allow_pickle=False), np.float64)


def head_file(folder: Path, cell: Cell) -> Path:
    """Where the ONNX graph of the first fold's head of a cell is stored."""
    return folder / "heads" / f"{cell.key}.onnx"


def _probabilities_file(folder: Path, cell: Cell) -> Path:
    return folder / "answers" / f"{cell.key}.npy"


def _to_csv(rows: Sequence[Row], *, header: bool) -> str:
    lines = [_to_line(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _to_line(row: Row) -> dict[str, str | float | None]:
    """The row by column, in the order of the columns; None becomes an empty field."""
    scores = row.scores
    return {
        **asdict(row.cell),
        "setting": json.dumps(row.setting),
        "features": row.features,
        "accuracy": scores.accuracy,
        "accuracy_fold_mean": scores.accuracy_fold_mean,
        "accuracy_fold_std": scores.accuracy_fold_std,
        "balanced_accuracy": scores.balanced_accuracy,
        "macro_f1": scores.macro_f1,
        **{f"recall_{name}": value for name, value in scores.recall.items()},
        "auroc": scores.auroc,
        "ece": scores.ece,
        **{f"accuracy_fold_{k}": value for k, value in enumerate(scores.accuracy_by_fold, 1)},
        "images": row.images,
        "fit_s": row.fit_s,
        "macs": row.macs,
        "graph_ms": row.graph_ms,
        **dict(zip(_ERROR, (*row.error.accuracy, *row.error.behind) if row.error else [None] * 4, strict=True)),
    }


_ERROR = ("accuracy_low", "accuracy_high", "behind_low", "behind_high")
"""Columns that tables of an earlier version lack; they stay the last ones."""


def _from_line(line: Mapping[str, str]) -> Row:
    prefix, of_fold = "recall_", "accuracy_fold_"
    scores = Scores(
        accuracy=float(line["accuracy"]),
        accuracy_fold_mean=float(line["accuracy_fold_mean"]),
        accuracy_fold_std=float(line["accuracy_fold_std"]),
        balanced_accuracy=float(line["balanced_accuracy"]),
        macro_f1=float(line["macro_f1"]),
        recall={name.removeprefix(prefix): float(line[name]) for name in line if name.startswith(prefix)},
        auroc=float(line["auroc"]),
        ece=float(line["ece"]),
        accuracy_by_fold=tuple(float(line[name]) for name in line if name.removeprefix(of_fold).isdigit()),
    )
    return Row(
        cell=Cell(*(line[name] for name in ("backbone", "tap", "selector", "classifier", "protocol"))),
        setting=json.loads(line["setting"]),
        features=int(line["features"]),
        scores=scores,
        images=int(line["images"]),
        fit_s=float(line["fit_s"]),
        macs=int(line["macs"]) if line["macs"] else None,
        graph_ms=float(line["graph_ms"]) if line["graph_ms"] else None,
        error=_error([line.get(name) for name in _ERROR]),
    )


def _error(limits: Sequence[str | None]) -> Error | None:
    if not all(limits):
        return None
    low, high, behind_low, behind_high = (float(limit) for limit in limits if limit)
    return Error((low, high), (behind_low, behind_high))
