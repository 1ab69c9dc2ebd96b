"""The answers to a slide's tiles, and the file that keeps them until all are there.

The file has a line of JSON for each block that was answered, below one that says of what. A run that was killed goes on
from it; a line that was only half written is answered again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_all.prediction import Prediction
from edge_all.slides.grid import Grid
from edge_all.tiles import EMPTY, Tile

SUFFIX = ".partial"

STATUSES = ("", "ok", "refer", "unfamiliar", EMPTY)
"""Of a tile, by the number that stands for it; the first is of one that was not looked at."""

_SYNCED = 5.0
"""Seconds after which what was written must be on the disk, so that a power cut takes little."""


class Answer(NamedTuple):
    """The answer to a tile.

    Attributes:
        column: Of the tile.
        row: Likewise.
        prediction: The answer; None for a tile in which hardly anything lies.
    """

    column: int
    row: int
    prediction: Prediction | None


class Answers:
    """The answers to the tiles of one slide: a few bytes each, however many there are."""

    def __init__(self, grid: Grid, classes: Sequence[str]) -> None:
        shape = grid.rows, grid.columns
        self.grid, self.classes = grid, tuple(classes)
        self.statuses = np.zeros(shape, np.uint8)
        self.probabilities = np.zeros((*shape, len(classes)), np.float32)
        self.unfamiliarity = np.full(shape, np.nan, np.float32)
        self.reasons: dict[tuple[int, int], str] = {}

    def add(self, answers: Sequence[Answer]) -> None:
        """Add some answers."""
        for column, row, prediction in answers:
            at = row, column
            self.statuses[at] = STATUSES.index(prediction.status if prediction else EMPTY)
            if prediction:
                self.probabilities[at] = list(prediction.probabilities.values())
                if prediction.unfamiliarity is not None:
                    self.unfamiliarity[at] = prediction.unfamiliarity
                if prediction.reason:
                    self.reasons[column, row] = prediction.reason

    @property
    def answered(self) -> np.ndarray:
        """Row and column of each tile that was answered, line by line, ``int64 [N, 2]``."""
        return np.argwhere((self.statuses > 0) & (self.statuses < STATUSES.index(EMPTY)))

    def tiles(self) -> Iterator[Tile]:
        """The tiles that were answered, line by line."""
        for row, column in self.answered:
            yield Tile(self.grid.box(int(column), int(row)), self._prediction(int(column), int(row)))

    def _prediction(self, column: int, row: int) -> Prediction:
        status, shares = STATUSES[self.statuses[row, column]], self.probabilities[row, column]
        top = self.classes[int(shares.argmax())]
        unfamiliarity = float(self.unfamiliarity[row, column])
        return Prediction(
            label=None if status == "unfamiliar" else top,
            status=status,
            top=top,
            probabilities=dict(zip(self.classes, shares.tolist(), strict=True)),
            ms=0.0,
            graph_ms=0.0,
            unfamiliarity=None if np.isnan(unfamiliarity) else unfamiliarity,
            reason=self.reasons.get((column, row)),
        )


class Kept:
    """The file of a run that may be cut short."""

    def __init__(self, path: Path, of: Mapping[str, object]) -> None:
        """Open the file, or begin it.

        Args:
            path: The file.
            of: What the answers are of; those of something else are not gone on with.

        Raises:
            OSError: It cannot be written.
        """
        self._path, self._first = path, json.dumps(of, sort_keys=True)
        self._lines: list[bytes] = []
        sound = self._read()
        self._file = path.open("r+b" if sound else "wb")
        if not sound:
            self._write(self._first)
        else:
            self._file.seek(sound)
            self._file.truncate()
        self._synced = time.monotonic()

    def answers(self, classes: Sequence[str]) -> Iterator[tuple[int, list[Answer]]]:
        """The number and the answers of each block that was answered before."""
        for line in self._lines:
            number, rows = json.loads(line)
            yield number, [_answer(row, classes) for row in rows]
        self._lines = []

    def add(self, number: int, answers: Sequence[Answer]) -> None:
        """Keep the answers of a block.

        Raises:
            OSError: The disk is full.
        """
        self._write(json.dumps([number, [_row(answer) for answer in answers]], separators=(",", ":")))
        if time.monotonic() - self._synced > _SYNCED:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def close(self, *, remove: bool = False) -> None:
        """Close the file, and remove it where everything of it is somewhere else."""
        self._file.close()
        if remove:
            with suppress(OSError):
                self._path.unlink()

    def _read(self) -> int:
        """Read what is there; return how many bytes of it are sound, 0 where they are of something else."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return 0
        lines = content.split(b"\n")[:-1]  # what follows the last line's end was only half written
        if not lines or lines[0] != self._first.encode():
            return 0
        sound = len(lines[0]) + 1
        for line in lines[1:]:
            if not _is_block(line):
                break
            self._lines.append(line)
            sound += len(line) + 1
        return sound

    def _write(self, line: str) -> None:
        self._file.write(line.encode() + b"\n")
        self._file.flush()


def _is_block(line: bytes) -> bool:
    """Whether a line was written whole; after a power cut there may be zeros in its place."""
    try:
        number, rows = json.loads(line)
    except (ValueError, TypeError):
        return False
    return isinstance(number, int) and isinstance(rows, list)


def _row(answer: Answer) -> list[object]:
    column, row, p = answer
    if p is None:
        return [column, row]
    return [column, row, p.status, list(p.probabilities.values()), p.unfamiliarity, p.reason]


def _answer(row: Sequence[object], classes: Sequence[str]) -> Answer:
    column, line, *rest = row
    assert isinstance(column, int) and isinstance(line, int)
    if not rest:
        return Answer(column, line, None)
    status, shares, unfamiliarity, reason = rest
    assert isinstance(status, str) and isinstance(shares, list)
    named = dict(zip(classes, shares, strict=True))
    top = max(named, key=lambda name: float(named[name]))
    label = None if status == "unfamiliar" else top
    far = None if unfamiliarity is None else float(str(unfamiliarity))
    why = None if reason is None else str(reason)
    return Answer(column, line, Prediction(label, status, top, named, 0.0, 0.0, far, reason=why))
