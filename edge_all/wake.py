"""What wakes somebody who watches folders: the system's notices of changes, where it gives any."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_all.progress import Tell

_READ = frozenset({"opened", "closed_no_write"})

_UNFINISHED = frozenset({"modified"}) if sys.platform == "linux" else frozenset()
"""On Linux a file's end is told as well."""


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
        self._closed: set[str] = set()
        self._watched: dict[Path, Any] = {}
        self._observer: Any = None
        try:
            from watchdog.observers import Observer
        except ImportError:
            tell("watchdog is not installed, so that folders are only looked at every few seconds")
            return
        logging.getLogger("watchdog").addHandler(logging.NullHandler())  # it warns when it is stopped
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
        if event.event_type in _READ or event.event_type in _UNFINISHED or event.is_directory:
            return
        if event.event_type in ("closed", "moved"):
            path = event.dest_path if event.event_type == "moved" else event.src_path
            with self._lock:
                self._closed.add(os.fsdecode(path))
        self._event.set()

    def closed(self) -> set[str]:
        """The files that were closed by their writer, or got their name, since this was asked last."""
        self._event.clear()
        with self._lock:
            closed, self._closed = self._closed, set()
        return closed

    def wait(self, seconds: float) -> None:
        """Wait for a notice, or for this time."""
        self._event.wait(seconds)

    def close(self) -> None:
        """Listen no more."""
        if self._observer is not None:
            self._observer.stop()
