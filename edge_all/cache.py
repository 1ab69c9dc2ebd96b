"""The folder for files that can be made again: ``$EDGE_ALL_CACHE``, else ``edge-all`` in the user's cache folder."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from edge_all import files


def folder(name: str) -> Path:
    """A folder of the cache; it need not exist."""
    chosen = os.environ.get("EDGE_ALL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(chosen) if chosen else base / "edge-all") / name


def store(path: Path, content: bytes) -> None:
    """Write a file of the cache. Where it cannot be written, the next run takes longer; that is no error."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)
