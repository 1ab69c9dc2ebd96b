"""The file of ``--log``: what goes to stderr, with the time, in a file that does not grow without end."""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from pathlib import Path

from edge_all.errors import EdgeAllError

_MOST_BYTES = 1_000_000

_KEPT = 5
"""Full files beside the one that is written: FILE.1 is the newest."""


class Log:
    """A file of messages; what it cannot take, because a disk is full, is on stderr all the same.

    It also takes the warnings of edge_all and, through them, of its libraries, which go on to stderr.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, and go on behind what it holds.

        Raises:
            EdgeAllError: It cannot be written.
        """
        try:
            self._handler = _Rotating(
                path, maxBytes=_MOST_BYTES, backupCount=_KEPT, encoding="utf-8", errors="backslashreplace"
            )
        except OSError as error:
            raise EdgeAllError(
                f"--log {path}: cannot be written ({error.strerror or error}); give a file in a folder that is there"
            ) from None
        form = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        form.converter = time.gmtime
        self._handler.setFormatter(form)
        root = logging.getLogger()
        root.addHandler(self._handler)
        if logging.lastResort and sys.stderr is not None:
            root.addHandler(logging.lastResort)  # which is used only while there is no other

    def write(self, line: str) -> None:
        """Write a line."""
        self._handler.handle(logging.LogRecord("edge_all", logging.INFO, "", 0, line, None, None))


class _Rotating(logging.handlers.RotatingFileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A line is lost, and the work goes on; the next one may be written again."""
