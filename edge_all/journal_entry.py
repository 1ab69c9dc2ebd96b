"""What a journal holds: an entry for each answer, and sessions."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

STATUSES = ("ok", "refer", "unfamiliar", "refused")

NO_CLASS = ""
"""What a review says where an image shows none of the classes; no class has an empty name."""

NO_CLASS_COUNTED = "no class"
"""What such images are counted as."""


@dataclass(frozen=True)
class Entry:
    """The answer for one image, what gave it, and what a person said about it.

    Attributes:
        file: The image, as named, or where it is since it was moved.
        sha256: Of its bytes, in hexadecimal digits; empty where they could not be read.
        bytes: How many they are.
        status: ``ok``, ``refer`` or ``unfamiliar`` as in a prediction, or ``refused``: it is no image that can be
            classified.
        label: The class that is named, or None.
        top: The most probable class; None for what was refused.
        probabilities: Of every class; empty for what was refused.
        unfamiliarity: Above 1 where the picture is not like the training images; None where the graph does not say.
        threshold: Below this probability an image is referred to a person.
        error: Why it was refused, else empty.
        bundle: Name of the bundle.
        bundle_digest: SHA-256 of its record.
        target: What ran the graph.
        precision: Of the graph.
        version: Of edge_all.
        engine: The engine, its version and its device.
        ms: From the bytes to the label, in milliseconds.
        time: Of the answer, UTC in ISO 8601 with milliseconds; empty becomes the time at which it is added.
        id: Rises with every entry, whatever the clock does; 0 before it is added.
        review: The class that a person confirmed or put in its place, or `NO_CLASS`; None where nobody has.
        review_time: When.
        session: The session that was open when it was added, or None.
        drift: Score of the run of fields that ends with this one (`edge_all.drift`); above 1 it is unlike the training
            images. None where there was no run yet, or none is judged.
        reason: Why the picture is unfamiliar, as in a prediction; None where nobody knows.
        mtime_ns: The file's time of modification when it was read, in nanoseconds; 0 where there was no file.
    """

    file: str
    sha256: str
    bytes: int
    status: str
    label: str | None = None
    top: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    unfamiliarity: float | None = None
    threshold: float = 0.0
    error: str = ""
    bundle: str = ""
    bundle_digest: str = ""
    target: str = ""
    precision: str = ""
    version: str = ""
    engine: str = ""
    ms: float = 0.0
    time: str = ""
    id: int = 0
    review: str | None = None
    review_time: str | None = None
    session: int | None = None
    mtime_ns: int = 0
    drift: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Session:
    """The images of one smear.

    Attributes:
        id: Its number.
        name: What a person called it.
        begun: UTC in ISO 8601.
        ended: The same; None while it is open.
    """

    id: int
    name: str
    begun: str
    ended: str | None


COLUMNS = tuple(column.name for column in fields(Entry))


def from_row(row: tuple[Any, ...]) -> Entry:
    """An entry from the values of its `COLUMNS`."""
    values = dict(zip(COLUMNS, row, strict=True))
    texts = {name: value.decode("utf-8", "surrogatepass") for name, value in values.items() if isinstance(value, bytes)}
    return Entry(**values | texts | {"probabilities": json.loads(values["probabilities"])})


def stored(value: object) -> object:
    """A value as SQLite takes it: a dictionary as JSON, and a name that is not in UTF-8 as bytes."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, str) and not _is_text(value):
        return value.encode("utf-8", "surrogatepass")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
