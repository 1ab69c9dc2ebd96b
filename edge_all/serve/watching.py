"""Folders that are watched beside the server: in a thread, with the same classifier and the same journal."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from edge_all import watch
from edge_all.errors import ServeError
from edge_all.journal import Journal
from edge_all.serve.service import Service

_AGAIN_SECONDS = 5.0
"""After watching has failed, until it is begun again."""


def check(folders: Sequence[Path]) -> None:
    """Check that folders can be watched.

    Raises:
        ServeError: One is not there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ServeError(f"--watch {folder}: there is no such folder; wanted a folder to watch")


def begin(folders: Sequence[Path], journal: Path, service: Service) -> None:
    """Watch folders from now on, until the process ends; every answer is in the journal before anything else.

    Args:
        folders: They, and the folders below them.
        journal: File of the journal.
        service: What answers.
    """
    if folders:
        threading.Thread(target=_watch, args=(folders, journal, service), name="watch", daemon=True).start()


def _watch(folders: Sequence[Path], path: Path, service: Service) -> None:
    while True:
        try:
            with Journal.open(path, tell=service.tell) as journal:
                report = service.figures.count_entry
                watch.Watcher(folders, journal, service.live, watch.Options(), service.tell, report).run()
        except Exception as error:  # an image must not end it: the folder would be silent, and nobody knows
            service.tell(f"watching failed, and begins again: {type(error).__name__}: {error}")
        time.sleep(_AGAIN_SECONDS)
