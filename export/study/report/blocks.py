"""The parts of a report, in HTML and in Markdown alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

PLOTS = "plots"
"""Folder of a study's plots."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: Literal["text"] = "text"


@dataclass(frozen=True)
class Points:
    """A list."""

    lines: Sequence[str]
    kind: Literal["points"] = "points"


@dataclass(frozen=True)
class Table:
    """A table; its cells are text, and the columns from number `figures` on are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: int = 1
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Plot:
    """A PNG in `PLOTS`."""

    file: str
    caption: str
    kind: Literal["plot"] = "plot"


@dataclass(frozen=True)
class Picture:
    """An image of the data set, as JPEG, and the text under it."""

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Images side by side; HTML only."""

    pictures: Sequence[Picture]
    kind: Literal["pictures"] = "pictures"


Block = Text | Points | Table | Plot | Pictures


@dataclass(frozen=True)
class Section:
    """A heading and what is under it."""

    title: str
    blocks: Sequence[Block]
