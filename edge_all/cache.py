"""Where things that can be made again are kept: ``$EDGE_ALL_CACHE``, else ``edge-all`` in the user's cache folder."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def folder(name: str) -> Path:
    """A folder of the cache; it need not exist."""
    chosen = os.environ.get("EDGE_ALL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (Path(chosen) if chosen else base / "edge-all") / name


def store(path: Path, content: bytes) -> None:
    """Write a file aside and rename it. A cache that cannot be written costs time, nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError:
        return
