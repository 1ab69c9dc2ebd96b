"""The record of a bundle: its types, the schema made from them, and what is really written."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest

from edge_all import bundle, bundle_checks, machine, protocols
from edge_all.bench.accuracy import exported_accuracy
from edge_all.bundle_checks import parse_record
from edge_all.errors import BundleError
from edge_all.record import Record

ROOT = Path(__file__).parent.parent
SCHEMA = json.loads((ROOT / "docs" / "bundle.schema.json").read_text())
TEXT = (bundle.BUILTIN / "bundle.json").read_text("utf-8")
RECORD = json.loads(TEXT)

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
        (("familiarity", "limit"), "1"),
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


@pytest.mark.parametrize("name", sorted({*RECORD} - Record.__optional_keys__))
def test_every_field_is_wanted(name: str) -> None:
    assert list(problems({key: value for key, value in RECORD.items() if key != name}, SCHEMA)) == [
        f".{name} is missing"
    ]


def test_a_scheme_that_failed() -> None:
    record = deepcopy(RECORD)
    record["gate"]["targets"]["cpu"] = {"passed": False, "tried": [{"scheme": "nncf", "failed": "no such operator"}]}
    assert list(problems(record, SCHEMA)) == []


def edited(path: Sequence[str | int], value: object) -> dict[str, Any]:
    """The built-in record with one value exchanged, or taken out where it is `GONE`, and a digest that is right."""
    record = json.loads(TEXT)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    if path != ("digest",):
        with suppress(ValueError):
            record["digest"] = bundle_checks.digest(record)
    return cast(dict[str, Any], record)


GONE = object()

PLACE = Path("bundle")


def read(record: object) -> Record:
    """What a reader of a bundle makes of this record."""
    return parse_record(PLACE, json.dumps(record).encode())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value of a record; of lists, only of the first item."""
    if path:
        yield path
    if isinstance(value, dict):
        for name, item in value.items():
            yield from places(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value[:1]):
            yield from places(item, (*path, number))


Json = list[object] | dict[str, object]

EMPTY: tuple[Json, ...] = ([], {})

STRANGE = (GONE, None, True, -1, 0, 2.5, 10**400, "", "\x1b[2J", "x", *EMPTY, [1, [2]], {"a": {"b": None}})


def test_no_edit_of_the_record_ends_in_another_error() -> None:
    """One for every value, with digests that are right: each is refused in one line, or what uses the record works."""
    accepted = 0
    for number, path in enumerate(places(RECORD)):
        for value in STRANGE[number % 13 :: 13]:
            try:
                record = read(edited(path, value))
            except BundleError as error:
                assert "\n" not in str(error) and "\x1b" not in str(error) and len(str(error)) < 400
                continue
            accepted += 1
            whole = bundle.Bundle(PLACE, record)
            assert len(set(whole.classes)) == len(whole.classes) > 1 and 0 <= whole.least_probability <= 1
            assert all(32 <= side <= 2048 for side in whole.input_size)
            for target in whole.targets:
                for precision in whole.precisions(target):
                    assert whole.model_file(target, precision) in record["files"]
                    assert 0 <= exported_accuracy(whole, target, precision)["accuracy"] <= 100
    assert accepted > 30


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("protocol",), True, "wanted an integer from 1 on"),
        (("protocol",), 1.0, "wanted an integer from 1 on"),
        (("classes",), ["A"] * 4, "wanted values that differ"),
        (("classes",), ["é", "e\u0301", "a", "b"], "wanted values that differ"),
        (("classes",), ["A"], "wanted 2 to 1000 values"),
        (("classes", 0), "", "wanted a printable text"),
        (("classes", 0), "a\nb", "wanted a printable text"),
        (("classes", 0), " a", "wanted a printable text"),
        (("classes", 0), "Benjamin", "is none of the classes"),
        (("input", "height"), 0, "wanted 32 to 2048"),
        (("input", "width"), 30_000, "wanted 32 to 2048"),
        (("input", "height"), 224.0, "wanted an integer"),
        (("input", "std"), [1.0], "wanted 3 to 3 values"),
        (("referral", "threshold"), 1.5, "wanted 0 to 1"),
        (("referral", "threshold"), -0.1, "wanted 0 to 1"),
        (("referral", "curve", 0, "threshold"), 7, "wanted 0 to 1"),
        (("referral",), {"threshold": 0.5}, "referral.coverage is missing"),
        (("metrics", "block", "fp32", "accuracy"), 101, "wanted 0 to 100"),
        (("metrics", "block"), GONE, "metrics.block does not say"),
        (("metrics", "block", "int8", "agreement_fp32"), GONE, "metrics.block does not say"),
        (("familiarity", "limit"), 10**300, "no number here is that large"),
        (("models",), {}, "models is empty"),
        (("models", "cpu"), {}, "models.cpu is empty"),
        (("models", "cpu", "fp32"), "model.onnx", "which files does not list"),
        (("models", "cpu", "int4"), "model.fp32.onnx", "no such precision"),
        (("files", "model.fp32.onnx", "bytes"), -1, "wanted 0 to"),
        (("files", "model.fp32.onnx", "sha256"), "0", "wanted a printable text"),
        (("digest",), "0" * 64, "its digest differs"),
    ],
)
def test_what_a_reader_refuses(path: tuple[str | int, ...], value: object, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        read(edited(path, value))


def test_the_figures_by_the_given_groups_are_as_whole_as_those_under_block() -> None:
    block = RECORD["metrics"]["block"]
    assert read(edited(("metrics", protocols.GIVEN_GROUPS), block))
    with pytest.raises(BundleError, match="metrics.given_groups does not say how accurate int8 is"):
        read(edited(("metrics", protocols.GIVEN_GROUPS), {"fp32": block["fp32"]}))


NAMES = (
    *("", ".", "..", "a/b", "a\\b", "C:a", "con", "NUL.txt", "a ", "a.", "a\0b", "a\nb", "Bundle.json", "a" * 300),
    "MODEL_card.md",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_a_plain_name(name: str) -> None:
    with pytest.raises(BundleError, match="plain file name|in capitals only|printable name"):
        read(edited(("files", name), {"bytes": 1, "sha256": "0" * 64}))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xff", b"[]", b"1", b"nul", b'{"protocol": 1', b'{"protocol": NaN}', b'{"protocol": 1e999, "a": 1e999}',
        b"[" * 100_000, b'{"protocol":1,"a":' + b'{"a":' * 100_000, b'{"protocol": ' + b"1" * 5000 + b"}",
        b'{"protocol": 1, "name": "\\ud800", "digest": "0"}', b'{"protocol": 1, "protocol": 1}',
    ],
)  # fmt: skip
def test_what_is_no_record(content: bytes) -> None:
    with pytest.raises(BundleError, match="is damaged") as caught:
        parse_record(PLACE, content)
    assert "\n" not in str(caught.value)


def test_rounding_is_let_be() -> None:
    assert read(edited(("referral", "threshold"), 1.0000001))["referral"]["threshold"] > 1


def test_a_name_that_is_there_twice() -> None:
    text = json.dumps(RECORD)
    with pytest.raises(BundleError, match="'seed' is in one object twice"):
        parse_record(PLACE, text.replace('"seed"', '"seed": 1, "seed"').encode())


def test_what_a_reader_does_not_know_is_let_be() -> None:
    for path in (("news",), ("input", "news"), ("files", "probe.npz", "news"), ("gate", "targets", "cpu", "news")):
        for value in (None, {"deep": [1, {"deeper": "é"}]}, 2**60):
            assert read(edited(path, value))["name"] == RECORD["name"]


def test_a_record_of_the_first_exports_of_protocol_1() -> None:
    record = deepcopy(RECORD)
    for name in ("augment", "balance", "cut", "familiarity", "referral", "robustness", "schemes", "setting", "taps"):
        del record[name]
    del record["input"]["mask_corner"], record["machine"]["limited_to"], record["gate"]["targets"]["cpu"]["tried"]
    for attempt in record["gate"]["targets"]["openvino"]["tried"]:
        for name in ("head", "block", "fp32_graph_ms", "graph_ms"):
            attempt.pop(name, None)
    record["digest"] = bundle_checks.digest(record)
    assert bundle.Bundle(PLACE, read(record)).least_probability == 0
