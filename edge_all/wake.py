"""What wakes somebody who watches folders: the system's notices of changes, where it gives any."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from edge_all.progress import Tell

_OTHER = frozenset({"opened", "closed_no_write", "deleted"}) | (
    {"modified"} if sys.platform == "linux" else frozenset()
)
"""Notices about files that bring nothing; on Linux the end of a change is told as well."""


class Changes(NamedTuple):
    """What the system told.

    Attributes:
        files: Files that have come or changed; true where their writer has closed them, or given them their name.
        folders: Whether folders have come or gone, so that all are to be looked at.
    """

    files: dict[str, bool]
    folders: bool


class Wake:
    """Waits until something may have changed. Whoever waits then looks: a notice can be lost, or be about nothing."""

    def __init__(self, folders: Sequence[Path], tell: Tell) -> None:
        """Begin to listen.

        Args:
            folders: They, and the folders below them.
            tell: Says where no notices come from.
        """
        self._tell = tell
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._files: dict[str, bool] = {}
        self._folders = False
        self._watched: dict[Path, Any] = {}
        self._observer: Any = None
        try:
            from watchdog.observers import Observer
        except ImportError:
            tell("watchdog is not installed, so that folders are only looked at every few seconds")
            return
        # It warns when it is stopped, and of folders that came while it looked.
        logging.getLogger("watchdog").addHandler(logging.NullHandler())
        warnings.filterwarnings("ignore", category=RuntimeWarning, module="watchdog")
        self._observer = Observer()
        self._observer.daemon = True
        try:
            self._observer.start()
        except (OSError, RuntimeError) as error:
            self._observer = None
            tell(f"no notices of changes ({error}), so that folders are only looked at every few seconds")
        for folder in folders:
            self.listen(folder)

    def listen(self, folder: Path) -> None:
        """Listen to a folder from now on, also to one that has been away."""
        if self._observer is None:
            return
        if (watched := self._watched.pop(folder, None)) is not None:
            with suppress(Exception):  # it went with its folder
                self._observer.unschedule(watched)
        try:
            self._watched[folder] = self._observer.schedule(self, str(folder), recursive=True)
        except Exception as error:  # OSError for a limit of the system, and others by platform
            self._tell(f"{folder}: no notices of changes ({error}), so that it is only looked at every few seconds")

    def dispatch(self, event: Any) -> None:
        """Called by watchdog, in a thread of its own."""
        kind = event.event_type
        if kind in _OTHER and not (event.is_directory and kind == "deleted"):
            return
        with self._lock:
            if not event.is_directory:
                path = os.fsdecode(event.dest_path if kind == "moved" else event.src_path)
                self._files[path] = self._files.get(path, False) or kind in ("closed", "moved")
            elif kind == "modified":  # a file in it has come or gone, which is told by itself
                return
            else:
                self._folders = True
        self._event.set()

    def changes(self) -> Changes:
        """What was told since this was asked last."""
        self._event.clear()
        with self._lock:
            changes = Changes(self._files, self._folders)
            self._files, self._folders = {}, False
        return changes

    def wait(self, seconds: float) -> None:
        """Wait for a notice, or for this time."""
        self._event.wait(seconds)

    def close(self) -> None:
        """Listen no more."""
        if self._observer is not None:
            self._observer.stop()
