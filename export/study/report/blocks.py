"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PLOTS = "plots"
"""Where a study keeps its figures."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Points:
    """A list."""

    lines: Sequence[str]
    kind: str = "points"


@dataclass(frozen=True)
class Table:
    """A table; its cells are text, and the columns from number `figures` on stand on the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: int = 1
    kind: str = "table"


@dataclass(frozen=True)
class Plot:
    """A PNG in `PLOTS`."""

    file: str
    caption: str
    kind: str = "plot"


@dataclass(frozen=True)
class Picture:
    """An image of the data set, as JPEG, and what is said under it."""

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Pictures:
    """Images side by side; HTML only."""

    pictures: Sequence[Picture]
    kind: str = "pictures"


Block = Text | Points | Table | Plot | Pictures


@dataclass(frozen=True)
class Section:
    """A heading and what is under it."""

    title: str
    blocks: Sequence[Block]
