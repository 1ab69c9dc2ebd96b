"""The record of a bundle: its types, the schema made from them, and what is really written."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from edge_all import bundle, machine

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "bundle.schema.json").read_text())
RECORD = json.loads((bundle.BUILTIN / "bundle.json").read_text())

TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None)}


def problems(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """What of a value does not agree with a schema; a field that the schema does not name is a problem as well."""
    if "$ref" in schema:
        yield from problems(value, SCHEMA["$defs"][schema["$ref"].rsplit("/")[-1]], place)
    elif "anyOf" in schema:
        if all(any(problems(value, choice, place)) for choice in schema["anyOf"]):
            yield f"{place}: {value!r} is none of the choices"
    elif schema["type"] == "array":
        for i, item in enumerate(value if isinstance(value, list) else ()):
            yield from problems(item, schema["items"], f"{place}[{i}]")
        if not isinstance(value, list):
            yield f"{place}: {value!r} is not an array"
    elif schema["type"] == "object":
        yield from _object_problems(value, schema, place)
    elif not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool) != (schema["type"] == "boolean"):  # type: ignore[arg-type]
        yield f"{place}: {value!r} is not of type {schema['type']}"


def _object_problems(value: Any, schema: dict[str, Any], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: {value!r} is not an object"
        return
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{place}.{name} is missing"
    for name, item in value.items():
        known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if known:
            yield from problems(item, known, f"{place}.{name}")
        else:
            yield f"{place}.{name} is not in the schema"


def test_the_schema_is_made_from_the_types() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "schema.py"))["text"]()
    assert json.loads(made) == SCHEMA, "run: python scripts/schema.py"


def test_every_field_says_what_it_holds() -> None:
    for name, definition in SCHEMA["$defs"].items():
        assert definition["description"], name
        for field, schema in definition["properties"].items():
            assert schema["description"], f"{name}.{field}"


def test_the_built_in_record_is_as_its_types_say() -> None:
    assert list(problems(RECORD, SCHEMA)) == []


def test_a_machine_is_as_its_type_says() -> None:
    assert list(problems(dict(machine.describe()), {"$ref": "#/$defs/MachineRecord"})) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("classes",), "Benign"),
        (("seed",), "0"),
        (("seed",), True),
        (("balance",), 0),
        (("input", "height"), 224.5),
        (("input", "depth"), 3),
        (("metrics", "block", "fp32", "accuracy"), None),
        (("taps", "candidates", 0, "ms"), "1"),
        (("gate", "targets", "cpu", "tried", 0, "block"), {}),
        (("gate", "targets", "cpu", "tried", 0, "scheme"), None),
        (("models", "cpu"), ["model.fp32.onnx"]),
    ],
)
def test_what_is_not_so_is_noticed(path: tuple[str | int, ...], value: object) -> None:
    record = deepcopy(RECORD)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert list(problems(record, SCHEMA))


@pytest.mark.parametrize("name", list(RECORD))
def test_every_field_is_wanted(name: str) -> None:
    assert list(problems({key: value for key, value in RECORD.items() if key != name}, SCHEMA)) == [
        f".{name} is missing"
    ]


def test_a_scheme_that_failed() -> None:
    record = deepcopy(RECORD)
    record["gate"]["targets"]["cpu"] = {"passed": False, "tried": [{"scheme": "nncf", "failed": "no such operator"}]}
    assert list(problems(record, SCHEMA)) == []
