"""How far each accuracy of a study may be off, and which pipelines the images do not tell from the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge_all import intervals
from edge_all.intervals import Units

from . import table
from .table import Error, Row


def fill(out: Path, rows: Sequence[Row], labels: np.ndarray, units: Units) -> list[Row]:
    """Fill in the intervals of every cell, from its stored answers, and write the table.

    They are computed anew each time, for the best pipeline may be another one since.

    Args:
        out: The study's folder.
        rows: The table.
        labels: ``int64 [N]``.
        units: What is resampled.

    Returns:
        The table.
    """
    if not rows:
        return []
    filled: list[Row] = []
    for protocol in sorted({row.cell.protocol for row in rows}):
        same = [row for row in rows if row.cell.protocol == protocol]
        right = {row.cell: table.probabilities(out, row.cell).argmax(1) == labels for row in same}
        best = right[table.ranking(same)[0].cell]
        filled += [replace(row, error=_error(right[row.cell], best, units)) for row in same]
    return table.rewrite(out, filled)


def _error(right: np.ndarray, best: np.ndarray, units: Units) -> Error:
    """The intervals of a pipeline; the best one is behind itself by nothing."""
    low, high = intervals.of_share(right, units)
    behind = (0.0, 0.0) if right is best else intervals.difference(best, right, units)
    return Error((low, high), (behind[0], behind[1]))
