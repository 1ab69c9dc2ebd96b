"""The time as answers carry it, and as people ask for it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_AGO = re.compile(r"(\d{1,6})([mhdw])")

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def now() -> str:
    """The time, UTC in ISO 8601 with milliseconds."""
    return _text(datetime.now(UTC))


def since(asked: str) -> str:
    """The time that a person means, as `now` writes it.

    Args:
        asked: How long ago (``30m``, ``2h``, ``7d``, ``4w``), or a date or a time in ISO 8601, which is local unless it
            says otherwise.

    Raises:
        ValueError: It is neither.
    """
    if ago := _AGO.fullmatch(asked.strip()):
        return _text(datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])}))
    return _text(datetime.fromisoformat(asked.strip()).astimezone(UTC))


def _text(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
