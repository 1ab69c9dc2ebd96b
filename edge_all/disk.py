"""How much room a disk has: said when it gets low and when it is well again, while the answers go on."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from edge_all.progress import Notices

LOW_BYTES = 1_000_000_000
"""Below this a disk is nearly full: the journal has room for a million answers there."""

_WELL_BYTES = 1_100_000_000
"""From this on it is well again; a disk at the limit is not spoken of at every look."""

_LOOK_SECONDS = 10.0


def free(path: Path) -> int | None:
    """Bytes free in the folder of a file; None where the system does not say."""
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None


def is_low(free_bytes: int | None) -> bool:
    """Whether so little is free that the disk is nearly full; where the system does not say, it is not."""
    return free_bytes is not None and free_bytes < LOW_BYTES


class Room:
    """Looks now and then at the disk that a file lies on."""

    def __init__(self, path: Path, notices: Notices) -> None:
        self._path, self._notices = path, notices
        self._next = 0.0

    def look(self) -> None:
        """Say once that the disk is nearly full, or that it is well again; most calls only look at the clock."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _LOOK_SECONDS
        found = free(self._path)
        if found is None:
            return
        if is_low(found):
            self._notices.say(
                _DISK,
                f"{self._path.parent}: the disk is nearly full, less than {LOW_BYTES / 1e9:.0f} GB is free: make room; "
                "answers go on, and the journal is whole",
            )
        elif found >= _WELL_BYTES:
            self._notices.well(_DISK, f"{self._path.parent}: the disk has room again")


_DISK = "disk"
