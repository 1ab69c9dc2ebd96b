"""Write docs/bundle.schema.json, the JSON Schema of bundle.json, from `edge_all.record`: python scripts/schema.py"""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_all import limits, record

FILE = Path(__file__).parent.parent / "docs" / "bundle.schema.json"

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}

Schema = dict[str, object]


def text() -> str:
    """The schema's file: draft 2020-12, a definition for each class of the record."""
    comments = _comments(inspect.getsource(record))
    classes = [value for value in vars(record).values() if typing.is_typeddict(value)]
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bundle.json of an edge_all bundle",
        "$ref": "#/$defs/Record",
        "$defs": {kind.__name__: _definition(kind, comments[kind.__name__]) for kind in classes},
    }
    return json.dumps(schema, indent=1) + "\n"


def _definition(kind: type, comments: Mapping[str, str]) -> Schema:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {
        "description": re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(kind) or ""),
        "type": "object",
        "properties": {name: {"description": comments[name]} | _schema(hint) for name, hint in hints.items()},
        "required": [name for name in hints if name in kind.__required_keys__],  # type: ignore[attr-defined]
    }


def _schema(hint: object) -> Schema:
    if typing.is_typeddict(hint):
        return {"$ref": f"#/$defs/{hint.__name__}"}  # type: ignore[attr-defined]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.NotRequired:
        return _schema(arguments[0])
    if origin is typing.Annotated:
        limit: limits.Limit = arguments[1]
        return _schema(arguments[0]) | limit.schema()
    if origin is Sequence:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    if origin in (types.UnionType, typing.Union):  # the second, where a part of it is annotated
        return {"anyOf": [_schema(argument) for argument in arguments]}
    return {"type": _PLAIN[hint]}  # type: ignore[index]


def _comments(source: str) -> dict[str, dict[str, str]]:
    """The comment of every field, by class; it stands behind the field, or on lines of its own above it."""
    comments: dict[str, dict[str, str]] = {}
    above: list[str] = []
    fields: dict[str, str] = {}
    for line in source.splitlines():
        if match := re.match(r"class (\w+)\((.*)\):", line):
            bases = [comments.get(base, {}) for base in match[2].split(", ")]
            fields = comments[match[1]] = {name: comment for base in bases for name, comment in base.items()}
        elif match := re.match(r"    # (.*)", line):
            above.append(match[1])
        elif match := re.match(r"    (\w+): [^#]*(?:# (.*))?$", line):
            fields[match[1]] = " ".join([*above, match[2] or ""]).strip()
            above = []
    return comments


if __name__ == "__main__":
    FILE.write_text(text())
