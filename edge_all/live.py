"""A classifier that follows its bundle: when the bundle's files are replaced, the new ones answer."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_all import bundle as bundles
from edge_all import bundle_files
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.drift import Runs
from edge_all.errors import EdgeAllError
from edge_all.progress import Tell

_AGAIN_SECONDS = 2.0
"""After a bundle that could not be loaded, for it may still be on its way."""


class Live:
    """A classifier, and the files that it was loaded from. Several threads may use it.

    Attributes:
        classifier: What answers now.
        runs: The last fields of each source.
        wrong: Why the files that are there now are not used; empty where they are.
    """

    def __init__(self, path: Path, load: Callable[[Bundle], Classifier], tell: Tell, keys: Path | None = None) -> None:
        """Load a bundle.

        Args:
            path: As for `bundle.load`.
            load: Loads a checked bundle into an engine.
            tell: Says that a bundle was replaced, or why it is not used.
            keys: As for `bundle.load`.

        Raises:
            EdgeAllError: It cannot be loaded.
        """
        bundle = bundles.load(path, keys)
        self._path, self._keys, self._load, self._tell = bundle.path, keys, load, tell
        self._stamp = _stamp(bundle.path)
        self._again, self._lock = 0.0, threading.Lock()
        self.wrong = ""
        self.runs = Runs(tell)
        self.classifier = load(bundle)

    def refresh(self) -> None:
        """Load the bundle again if it was replaced; what cannot be loaded is said, and the old one stays.

        While one thread loads, the others go on with the old one.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._refresh()
        finally:
            self._lock.release()

    def _refresh(self) -> None:
        stamp = _stamp(self._path)
        if stamp == self._stamp or time.monotonic() < self._again:
            return
        try:
            bundle = bundles.load(self._path, self._keys)
            if bundle.digest != self.classifier.bundle.digest:
                self.classifier = self._load(bundle)
                self._tell(f"{self._path}: replaced: {bundle.name} ({bundle.digest[:16]}) answers now")
        except (EdgeAllError, OSError) as error:
            if _stamp(self._path) != stamp:  # replaced once more, while it was read
                return
            if self.wrong != str(error):
                old = self.classifier.bundle
                self._tell(f"{error}; until then {old.name} ({old.digest[:16]}), loaded before, goes on answering")
            self.wrong, self._again = str(error), time.monotonic() + _AGAIN_SECONDS
        else:
            self._stamp, self.wrong = stamp, ""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes with a bundle's record; None where there is none."""
    try:
        status = os.stat(path / bundle_files.RECORD if path.is_dir() else path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
