"""Text of foreign origin, such as names of files and classes, made harmless for terminals, spreadsheets and parsers."""

from __future__ import annotations

import codecs
import json
import unicodedata
from typing import TextIO

_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of the characters that act on a terminal or break a line, and of what stands for single bytes:
control characters, marks of direction, surrogates, separators of lines and paragraphs."""

_JOINERS = "\u200c\u200d"
"""Parts of words in several scripts, and of emoji; they act on the letters beside them only."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection")."""


def shown(text: str, keep: str = "") -> str:
    r"""A text with its control characters escaped, as in ``\x1b``, so that it is one line and acts on no terminal.

    Args:
        text: Any text.
        keep: Control characters that stay as they are.
    """
    return text if text.isprintable() else "".join(_character(c, keep) for c in text)


def _character(c: str, keep: str) -> str:
    if c in keep or c in _JOINERS or unicodedata.category(c) not in _ESCAPED:
        return c
    return c.encode("unicode_escape").decode()


def cell(text: str) -> str:
    """A text as a cell of a CSV file: on one line, and never a formula, for an apostrophe is put before such a one."""
    harmless = f"'{shown(text)}" if text.startswith(_FORMULA) else shown(text)
    return '"{}"'.format(harmless.replace('"', '""')) if any(c in harmless for c in ',;"') else harmless


def json_line(value: object, stream: TextIO) -> str:
    """A value as JSON on one line, exact for any text.

    Characters beyond ASCII are written as they are only where the stream is in UTF-8 and none of them is a control
    character, a surrogate, or a separator of lines.
    """
    line = json.dumps(value, ensure_ascii=False)
    if _is_utf8(stream) and line.isprintable():
        return line
    return json.dumps(value).replace("\x7f", "\\u007f")


def _is_utf8(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding).name == "utf-8"
    except (LookupError, TypeError, AttributeError):
        return False
