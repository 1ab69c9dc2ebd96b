"""Where a user's files lie on this system: platformdirs knows the places of Linux (XDG), macOS and Windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_NAME = "edge-all"


def cache() -> Path | None:
    """The folder for what can be made again; None where the user has no home."""
    from platformdirs import user_cache_path

    return _own(user_cache_path)


def data() -> Path | None:
    """The folder for what must be kept; None where the user has no home."""
    from platformdirs import user_data_path

    return _own(user_data_path)


def _own(place: Callable[..., Any]) -> Path | None:
    try:
        path = Path(place(_NAME, appauthor=False))
    except RuntimeError:  # no home
        return None
    return None if path.parts[0].startswith("~") else path  # as older versions say so
