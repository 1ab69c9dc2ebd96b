"""A CSV file that follows the journal: whole lines, each once, whatever ends the process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from edge_all.cli.text import cell
from edge_all.cli.writers import csv_columns, csv_line
from edge_all.errors import JournalError
from edge_all.journal import Journal
from edge_all.progress import Notices

_TAIL = 2**16
"""Bytes at the end of the file that are read first; a line is much shorter."""


class Appended:
    """The entries of the journal for some folders, in a CSV file whose last column is their id."""

    def __init__(
        self, path: Path, journal: Journal, folders: Sequence[Path], classes: Sequence[str], notices: Notices
    ) -> None:
        """Prepare to write.

        Args:
            path: The file; one that is there is continued.
            journal: What it follows.
            folders: Entries for files below these are written.
            classes: Each has a column.
            notices: Says that the file cannot be written, and that it can again.

        Raises:
            JournalError: The file holds something else.
        """
        self._path, self._journal, self._folders, self._notices = path, journal, folders, notices
        self._classes = frozenset(classes)
        self._columns = [*csv_columns(classes), "id"]
        self._header = _header(self._columns)
        try:
            with open(path, "rb") as file:
                self._continue_older(file.readline(2 * len(self._header)))
                file.seek(0)
                self._check(file.read(len(self._header)))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise JournalError(f"{path}: cannot be read: {error.strerror or error}; give another --out") from None

    def update(self) -> None:
        """Write the entries that the file lacks. A failure is said; the next call makes up for it.

        Raises:
            JournalError: The journal cannot be used.
        """
        with self._journal.exclusive():  # two watchers may have one file
            try:
                self._append()
            except OSError as error:
                reason = error.strerror or error
                self._notices.say(self, f"{self._path}: cannot be written: {reason}; the journal has every answer")
            except JournalError as error:
                self._notices.say(self, str(error))
            else:
                self._notices.well(self, f"{self._path}: can be written again, and has every answer")

    def retry(self) -> None:
        """Write what could not be written, if there is any."""
        if self._notices.is_wrong(self):
            with suppress(JournalError):  # which is said elsewhere
                self.update()

    def _append(self) -> None:
        with open(self._path, "a+b") as file:
            file.seek(0)
            self._check(file.read(len(self._header)))
            end, last = self._whole(file)
            try:
                file.truncate(end)
                if not end:
                    file.write(self._header)
                for entry in self._journal.each(after=last):
                    if any(Path(entry.file).is_relative_to(folder) for folder in self._folders):
                        if not self._classes.issuperset(entry.probabilities):
                            self._notices.say(
                                "classes", f"{self._path}: has no column for some classes of {entry.bundle}"
                            )
                        file.write((csv_line(self._columns, vars(entry)) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.truncate(self._path, end)
                raise

    def _continue_older(self, first_line: bytes) -> None:
        """Write no reasons into a file that an edge_all began which had none."""
        older = [name for name in self._columns if name != "reason"]
        if first_line == _header(older):
            self._columns, self._header = older, first_line

    def _check(self, start: bytes) -> None:
        """Check that a file begins as this one would; the end of its first line may have been lost."""
        if start != self._header and (b"\n" in start or not self._header.startswith(start)):
            raise JournalError(f"{self._path}: holds something else, or answers with other classes; give another --out")

    def _whole(self, file: BinaryIO) -> tuple[int, int]:
        """Where the last whole line ends, and the id in it."""
        size = file.seek(0, os.SEEK_END)
        length = min(_TAIL, size)
        while True:
            file.seek(size - length)
            lines = file.read(length).split(b"\n")
            if len(lines) > 2 or length == size:
                break
            length = min(2 * length, size)
        end = size - len(lines[-1])
        if len(lines) < 2 or end <= len(self._header):
            return end, 0
        try:
            return end, int(lines[-2].rsplit(b",", 1)[-1])
        except ValueError:
            raise JournalError(f"{self._path}: its last line has no id; give another --out") from None


def _header(columns: Sequence[str]) -> bytes:
    return (",".join(map(cell, columns)) + "\n").encode()
