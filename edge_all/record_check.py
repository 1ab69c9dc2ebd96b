"""Whether the content of ``bundle.json`` is a record: every field as its annotation in `edge_all.record` says.

A field that the annotations do not name is let be, whatever it holds.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypedDict, cast

from edge_all import limits, protocols
from edge_all.record import Record

_LATER = {
    "Record": {"augment", "balance", "cut", "familiarity", "referral", "robustness", "schemes", "setting", "taps"},
    "InputRecord": {"mask_corner"},
    "MachineRecord": {"limited_to"},
    "TargetVerdict": {"tried"},
    "TriedHead": {"head", "block", "fp32_graph_ms", "graph_ms"},
}
"""Fields by class that the first exports of protocol 1 did not write yet. A reader does without them."""

_TYPES: Mapping[object, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a text"),
    bool: ((bool,), "true or false"),
    int: ((int,), "an integer"),
    float: ((int, float), "a number"),
    types.NoneType: ((types.NoneType,), "null"),
}

_NAME = limits.Pattern(r"\S(.{0,198}\S)?")

_FILE_NAME = re.compile(r"[^\x00-\x1f\"*/:<>?\\|]*[^\x00-\x1f\"*/:<>?\\|. ]")
"""A name that is one file's on every system, and leads nowhere else."""

_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""What Windows takes for a device."""


class RecordError(ValueError):
    """A content that is no record; the message says where, and what was wanted."""


def parse(content: bytes) -> dict[str, Any]:
    """Read JSON as every program would read it.

    Raises:
        RecordError: It is no JSON object in UTF-8, or a name is in it twice, or it is nested beyond reason.
    """
    try:
        parsed = json.loads(content.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, RecordError) else "it is no JSON"
        raise RecordError(reason) from None
    if not isinstance(parsed, dict):
        raise RecordError("it is no JSON object")
    return parsed


def check(content: Mapping[str, object], own_name: str) -> Record:
    """Check the content of a record of this protocol.

    Args:
        content: As it was parsed.
        own_name: Name of the record's own file, which it must not list.

    Raises:
        RecordError: A field is missing, of another type or outside its limits, or two fields do not agree.
    """
    _check(content, Record, "")
    whole = cast(Record, content)
    _check_files(whole, own_name)
    _check_models(whole)
    _check_scores(whole)
    return whole


def check_classes(names: Sequence[str]) -> None:
    """Check names of classes as those of a record.

    Raises:
        RecordError: A bundle cannot have such classes.
    """
    _check(list(names), limits.Names, "classes")


def is_plain(name: str) -> bool:
    """Whether a text is the name of a file in a bundle's own folder, on every system."""
    return bool(_FILE_NAME.fullmatch(name)) and name.isprintable() and not _DEVICE.fullmatch(name) and len(name) <= 200


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"{_shown(twice)} is in one object twice")
    return fields


def _no_number(text: str) -> float:
    raise RecordError(f"{text} is no number of JSON")


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@cache
def _fields(kind: type) -> Mapping[str, tuple[object, bool]]:
    """The annotation of each field of a typed dictionary, and whether a reader needs the field."""
    later = _LATER.get(kind.__name__, set())
    required = cast(frozenset[str], kind.__required_keys__)  # type: ignore[attr-defined]
    return {name: (hint, name in required and name not in later) for name, hint in kind.__annotations__.items()}


@cache
def _form(hint: Any) -> tuple[object, tuple[Any, ...]]:
    """What kind of annotation this is, and what it is made of."""
    if typing.is_typeddict(hint):
        return TypedDict, (hint,)
    return typing.get_origin(hint), typing.get_args(hint)


def _check(value: object, hint: Any, place: str) -> None:
    kind, parts = _form(hint)
    if kind is None:
        _check_plain(value, hint, place)
    elif kind is TypedDict:
        _check_fields(value, hint, place)
    elif kind is typing.NotRequired:
        _check(value, parts[0], place)
    elif kind is typing.Annotated:
        _check(value, parts[0], place)
        if problem := parts[1].problem(value):
            raise RecordError(f"{place} is {_shown(value)}; {problem}")
    elif kind is Sequence or kind is Mapping:
        _check_items(value, parts[-1], place, is_list=kind is Sequence)
    else:
        _check_choice(value, parts, place)


def _check_items(value: object, hint: object, place: str, *, is_list: bool) -> None:
    """Check each item of a list, or each value of an object."""
    if is_list and not isinstance(value, list):
        raise RecordError(f"{place} is {_shown(value)}; wanted a list")
    if hint is float and isinstance(value, list) and _are_numbers(value):
        return
    items = enumerate(value) if isinstance(value, list) and is_list else _named(value, place).items()
    for key, item in items:
        _check(item, hint, f"{place}[{key}]" if is_list else f"{place}.{key}")


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers within the limits, told at once: most of a record's values are in such lists."""
    most = limits.LARGEST
    return all(type(value) in (float, int) and -most <= value <= most for value in values)


def _check_choice(value: object, choices: Iterable[Any], place: str) -> None:
    """Check a value of a union: against the first choice of its JSON type that has all its fields."""
    problems = []
    for choice in choices:
        try:
            return _check(value, choice, place)
        except RecordError as error:
            problems.append(str(error))
    raise RecordError(max(problems, key=len))


def _check_fields(value: object, kind: type, place: str) -> None:
    if not isinstance(value, dict):
        raise RecordError(f"{place or 'the whole'} is {_shown(value)}; wanted an object")
    for name, (hint, needed) in _fields(kind).items():
        inner = f"{place}.{name}" if place else name
        if name in value:
            _check(value[name], hint, inner)
        elif needed:
            raise RecordError(f"{inner} is missing")


def _named(value: object, place: str) -> Mapping[str, object]:
    """A mapping of names to values."""
    if not isinstance(value, dict):
        raise RecordError(f"{place} is {_shown(value)}; wanted an object")
    for name in value:
        if _NAME.problem(name):
            raise RecordError(f"{place} has a field {_shown(name)}; wanted a printable name")
    return value


def _check_plain(value: object, hint: object, place: str) -> None:
    kinds, words = _TYPES[hint]
    if not isinstance(value, kinds) or isinstance(value, bool) != (hint is bool):
        raise RecordError(f"{place} is {_shown(value)}; wanted {words}")
    if isinstance(value, int | float) and not -limits.LARGEST <= value <= limits.LARGEST:
        raise RecordError(f"{place} is {_shown(value)}; no number here is that large")


def _check_files(whole: Record, own_name: str) -> None:
    names = list(whole["files"])
    if len(names) > 100:
        raise RecordError(f"files has {len(names)} entries; wanted at most 100")
    for name in names:
        if not is_plain(name) or name.casefold() == own_name.casefold():
            raise RecordError(f"files names {_shown(name)}, which is not a plain file name of another file")
    if len({name.casefold() for name in names}) < len(names):
        raise RecordError("files has names that differ in capitals only")


def _check_models(whole: Record) -> None:
    """Every graph is a file, of a known precision."""
    if not whole["models"]:
        raise RecordError("models is empty; wanted at least one target")
    for target, precisions in whole["models"].items():
        if not precisions:
            raise RecordError(f"models.{target} is empty; wanted at least one precision")
        for precision, name in precisions.items():
            if precision not in limits.PRECISIONS:
                known = ", ".join(limits.PRECISIONS)
                raise RecordError(f"models.{target}.{precision}: no such precision; wanted one of {known}")
            if name not in whole["files"]:
                raise RecordError(f"models.{target}.{precision} is {_shown(name)}, which files does not list")

    carried = whole.get("carried")
    if carried and (not carried["features"] or carried["file"] not in set(whole["files"]) - _used(whole)):
        raise RecordError(f"carried.file is {_shown(carried['file'])}, which is no graph of its own among files")


def _used(whole: Record) -> set[str]:
    return {name for precisions in whole["models"].values() for name in precisions.values()}


def _check_scores(whole: Record) -> None:
    """There is an accuracy of every precision, and it is one of the classes."""
    for protocol in {"block", protocols.headline([*whole["metrics"], "block"])}:
        _check_protocol(whole, protocol)


def _check_protocol(whole: Record, protocol: str) -> None:
    scores = cast(Mapping[str, Mapping[str, object]], whole["metrics"].get(protocol, {}))
    place = f"metrics.{protocol}"
    for precision in {name for precisions in whole["models"].values() for name in precisions} | {"fp32"}:
        if precision not in scores or (precision != "fp32" and "agreement_fp32" not in scores[precision]):
            raise RecordError(f"{place} does not say how accurate {precision} is, and how often it agrees")
    by_target = scores["int8"]["targets"] if "int8" in scores else {}
    for target, score in cast(Mapping[str, Mapping[str, object]], by_target).items():
        if "agreement_fp32" not in score:
            raise RecordError(f"{place}.int8.targets.{target}.agreement_fp32 is missing")
    named = {
        "dataset.counts": whole["dataset"]["counts"],
        f"{place}.fp32.recall": scores["fp32"]["recall"],
        "positive": whole.get("positive", ()),
    }
    for where, classes in named.items():
        if unknown := set(cast(Iterable[str], classes)) - set(whole["classes"]):
            raise RecordError(f"{where} names {_shown(min(unknown))}, which is none of the classes")
