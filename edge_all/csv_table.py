"""A CSV file with a header that a person or a spreadsheet wrote: UTF-8, comma or semicolon, read with line numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_all.errors import DataError


class Line(NamedTuple):
    """A line of the table.

    Attributes:
        number: Where it ends in the file, from 1.
        cells: By column, without blanks around them.
    """

    number: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """What was read.

    Attributes:
        lines: All that are not empty, without the header.
        columns: Those that were asked for and are there.
        ignored: Those that were not asked for.
    """

    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...]


def read(path: Path, wanted: Sequence[str], optional: Sequence[str] = ()) -> Table:
    """Read a table.

    Args:
        path: The file, in UTF-8 with or without a byte order mark.
        wanted: Columns that it must have; upper and lower case are the same.
        optional: Columns that it may have.

    Raises:
        DataError: It cannot be read, a column is missing or there twice, or a line has more or fewer cells.
    """
    form = ",".join(wanted) + "".join(f"[,{name}]" for name in optional)
    rows = _rows(path, form)
    if not rows:
        raise DataError(f"{path} is empty; wanted a header {form} and a line for each image")
    _, header = rows[0]
    names = [name.casefold() for name in header]
    for name in wanted:
        if name not in names:
            raise DataError(f"{path} line 1: no column {name!r} among {', '.join(header)}; wanted a header {form}")
    twice = next((name for name in (*wanted, *optional) if names.count(name) > 1), None)
    if twice:
        raise DataError(f"{path} line 1: two columns {twice!r}; wanted a header {form}")
    lines = []
    for number, cells in rows[1:]:
        if len(cells) != len(names):
            raise DataError(
                f"{path} line {number}: {len(cells)} cells under {len(names)} columns; "
                "put quotes around a cell with a separator in it"
            )
        lines.append(Line(number, dict(zip(names, cells, strict=True))))
    if not lines:
        raise DataError(f"{path} has a header and no line; wanted one for each image")
    known = tuple(name for name in (*wanted, *optional) if name in names)
    return Table(tuple(lines), known, tuple(name for name in header if name.casefold() not in known))


def _rows(path: Path, form: str) -> list[tuple[int, list[str]]]:
    """The cells of each line that is not empty, with its number."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); wanted a CSV file, {form}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not in UTF-8; wanted a CSV file, {form}: save it as UTF-8") from None
    first = text.lstrip("\r\n").partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: {error}; wanted a CSV file, {form}") from None
    return rows
