"""The three forms of the answers of ``edge-all classify``: a table for people, JSON and CSV for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from edge_all.cli.output import json_text, say, tell
from edge_all.cli.text import cell, shown

if TYPE_CHECKING:
    from edge_all.classifier import Classifier
    from edge_all.prediction import Prediction

Answered = Callable[[str, "Prediction"], None]
"""Writes the answer for an image of this name."""

Refused = Callable[[str, str], None]
"""Writes the name of what cannot be classified, and why."""

Write = Callable[[str], None]
"""Prints a line."""


def open_writer(form: str | None, classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    """Begin to write answers.

    Args:
        form: ``json``, ``csv``, or None for the table.
        classifier: What gives the answers.
        write: Prints a line of them.
    """
    return {None: _table, "json": _json, "csv": _csv}[form](classifier, write)


def _json(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    def line(name: str, fields: dict[str, object]) -> None:
        write(json_text({"file": name} | fields))

    return lambda name, p: line(name, classifier.trace(p)), lambda name, error: line(name, {"error": error})


TRACE = ("threshold", "unfamiliarity", "sha256", "bundle", "bundle_digest", "version", "engine", "time", "reason")
"""The last columns of CSV: what an answer is traced by."""


def csv_columns(classes: Sequence[str]) -> list[str]:
    """Titles of the columns of CSV for a bundle with these classes."""
    shares = (f"p_{name}" for name in classes)
    return ["file", "label", "status", "top", *shares, "target", "precision", "ms", "error", *TRACE]


def csv_line(columns: Sequence[str], fields: Mapping[str, object]) -> str:
    """A line of CSV.

    Args:
        columns: Titles, as in `csv_columns`.
        fields: Values by their names in `Classifier.trace`; what is missing or None becomes an empty cell.
    """
    shares = cast(Mapping[str, float], fields.get("probabilities") or {})
    values = {**fields, **{f"p_{name}": f"{share:.6f}" for name, share in shares.items()}}
    values["ms"] = f"{values['ms']:.3f}" if values.get("ms") else None
    return ",".join(cell("" if (value := values.get(name)) is None else str(value)) for name in columns)


def _csv(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    columns = csv_columns(classifier.bundle.classes)

    def answered(name: str, p: Prediction) -> None:
        write(csv_line(columns, {"file": name} | classifier.trace(p)))

    def refused(name: str, error: str) -> None:
        write(csv_line(columns, {"file": name, "error": error} | classifier.origin()))

    write(",".join(map(cell, columns)))
    return answered, refused


def _table(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    """Aligned columns, line by line, so that a long run shows its answers as they come."""
    from edge_all.input_check import in_words

    bundle = classifier.bundle
    names = {name: shown(name) for name in bundle.classes}
    say(f"{bundle.name}, {classifier.target} {classifier.precision}: {', '.join(names.values())}", err=True)
    reasons = [look["reason"] for look in bundle.input_check["looks"]] if bundle.input_check else []
    width = max(len(in_words("unfamiliar", reason)) for reason in [*reasons, None])
    width = max(width, *map(len, names.values()))

    def answered(name: str, p: Prediction) -> None:
        label = (
            in_words(p.status, p.reason)
            if p.label is None
            else f"{names[p.label]}?"
            if p.status == "refer"
            else names[p.label]
        )
        share = "-" if p.label is None else f"{p.probabilities[p.label]:.1%}"
        write(f"{label:<{width}}  {share:>6}  {p.ms:7.1f} ms  {name}")

    def refused(name: str, error: str) -> None:
        write(f"{'-':<{width}}  {'-':>6}  {'-':>7}     {name}")
        tell(f"{name}: {error}")

    return answered, refused
