"""Files that come into folders, and when each of them is whole.

A file is due when its size and its time of modification have not changed for a moment, or when the system says that its
writer has closed it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_all import inputs
from edge_all.progress import Notices

_LOCK = "~$"
"""Office programs and some servers begin the names of their own files so."""


class Stamp(NamedTuple):
    """What changes when a file is written or replaced.

    Attributes:
        size: Its bytes.
        mtime_ns: Its time of modification, in nanoseconds.
        number: The file system's number of it.
    """

    size: int
    mtime_ns: int
    number: int


@dataclass
class Waiting:
    """A file that is not recorded yet.

    Attributes:
        root: The watched folder that it lies in.
        stamp: What it was when it was last looked at.
        since: When it became so, on the monotonic clock.
        due: When to take it, on the monotonic clock.
        incomplete: Whether it was read and is no whole image yet.
    """

    root: Path
    stamp: Stamp
    since: float
    due: float
    incomplete: bool = False


def stamp(path: Path) -> Stamp | None:
    """The stamp of a file; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


class Arrivals:
    """The files of folders that are not done with.

    Attributes:
        waiting: They, by path.
    """

    def __init__(self, folders: Sequence[Path], settle: float, notices: Notices, back: Callable[[Path], None]) -> None:
        """Begin with all files that are there.

        Args:
            folders: Absolute paths; the folders below them count.
            settle: A file is whole when it did not change for so long, in seconds.
            notices: Says what cannot be read.
            back: Called with a folder that had gone and is back.
        """
        self.waiting: dict[Path, Waiting] = {}
        self._folders, self._settle, self._notices, self._back = folders, settle, notices, back
        self._done: dict[Path, Stamp] = {}
        self._new = set(folders)

    def look(self, left_out: Collection[Path]) -> None:
        """Look at all the folders.

        Args:
            left_out: Folders that are not searched.
        """
        present = [folder for folder in self._folders if self._is_there(folder)]
        found = inputs.find(present, left_out)
        stamps: dict[Path, Stamp] = {}
        for root, items in zip(present, found.items, strict=True):
            for path, error in items:
                if error and error != inputs.EMPTY:
                    self._notices.say(path, f"{path}: {error}")
                elif not error and (now := self._see(path, root)):
                    stamps[path] = now
        self._new.difference_update(present)
        self._done = {path: now for path, now in self._done.items() if path in stamps}
        self.waiting = {path: waiting for path, waiting in self.waiting.items() if path in stamps}

    def told(self, files: Mapping[str, bool], left_out: Collection[Path]) -> None:
        """Look at some files only.

        Args:
            files: Their paths; true for one that was closed by its writer.
            left_out: Folders that are not searched.
        """
        for name, closed in files.items():
            path = Path(name)
            root = next((folder for folder in self._folders if path.is_relative_to(folder)), None)
            if root is None or not _counts(path, root, left_out) or not self._see(path, root):
                continue
            waiting = self.waiting.get(path)
            if closed and waiting and not waiting.incomplete:
                waiting.due = min(waiting.due, time.monotonic())

    def due(self) -> list[Path]:
        """The files that seem whole, the oldest first."""
        clock = time.monotonic()
        due = [(each.stamp.mtime_ns, path.name, path) for path, each in self.waiting.items() if each.due <= clock]
        return [path for _, _, path in sorted(due)]

    def _see(self, path: Path, root: Path) -> Stamp | None:
        """Wait for a file unless it is done with; None if it is gone or is none of ours."""
        now = None if path.name.startswith(_LOCK) else stamp(path)
        if now and self._done.get(path) != now:
            waiting = self.waiting.get(path)
            if waiting is None or waiting.stamp != now:
                self.changed(path, root, now)
        return now

    def changed(self, path: Path, root: Path, now: Stamp) -> Waiting:
        """Wait for a file that has come or changed; what was there at the start may have been at rest for long."""
        since = time.monotonic()
        if root in self._new:
            since -= max(0.0, time.time() - now.mtime_ns / 1e9)
        self.waiting[path] = waiting = Waiting(root, now, since, since + self._settle)
        return waiting

    def done(self, path: Path) -> None:
        """Be done with a file until it changes."""
        self._done[path] = self.waiting.pop(path).stamp

    def gone(self, path: Path) -> None:
        """Wait no more for a file that is not there; if it comes again, it is new."""
        self.waiting.pop(path, None)

    def again(self) -> None:
        """Be done with no file."""
        self._done.clear()

    def pause(self, most: float) -> float:
        """Seconds until a file is due, and at most so many."""
        due = min((waiting.due for waiting in self.waiting.values()), default=float("inf"))
        return max(0.001, min(most, due - time.monotonic()))

    def _is_there(self, folder: Path) -> bool:
        if not folder.is_dir():
            self._notices.say(folder, f"{folder}: the folder has gone; waiting for it")
            return False
        if self._notices.is_wrong(folder):
            self._new.add(folder)
            self._back(folder)
            self._notices.well(folder, f"{folder}: the folder is back")
        return True


def _counts(path: Path, root: Path, left_out: Collection[Path]) -> bool:
    """Whether a search would list a file."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    if hidden or path.suffix.lower() not in inputs.SUFFIXES or not path.is_file():
        return False
    return not any(folder in left_out for folder in path.parents)
