"""The three forms of the answers of ``edge-all classify``: a table for people, JSON and CSV for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_all.cli.output import json_text, say, tell
from edge_all.cli.text import cell, shown

if TYPE_CHECKING:
    from edge_all.classifier import Classifier, Prediction

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
    engine = {"target": classifier.target, "precision": classifier.precision}

    def line(name: str, fields: dict[str, object]) -> None:
        write(json_text({"file": name} | fields))

    def answered(name: str, p: Prediction) -> None:
        answer = {"label": p.label, "status": p.status, "top": p.top, "probabilities": p.probabilities}
        line(name, answer | engine | {"ms": round(p.ms, 3)})

    return answered, lambda name, error: line(name, {"error": error})


def _csv(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    classes = classifier.bundle.classes
    engine = classifier.target, classifier.precision

    def line(*cells: str) -> None:
        write(",".join(map(cell, cells)))

    def answered(name: str, p: Prediction) -> None:
        shares = (f"{v:.6f}" for v in p.probabilities.values())
        line(name, p.label or "", p.status, p.top, *shares, *engine, f"{p.ms:.3f}", "")

    def refused(name: str, error: str) -> None:
        line(name, "", "", "", *[""] * len(classes), *engine, "", error)

    line("file", "label", "status", "top", *(f"p_{name}" for name in classes), "target", "precision", "ms", "error")
    return answered, refused


def _table(classifier: Classifier, write: Write) -> tuple[Answered, Refused]:
    """Aligned columns, line by line, so that a long run shows its answers as they come."""
    bundle = classifier.bundle
    names = {name: shown(name) for name in bundle.classes}
    say(f"{bundle.name}, {classifier.target} {classifier.precision}: {', '.join(names.values())}", err=True)
    width = max(len("unfamiliar"), *map(len, names.values()))

    def answered(name: str, p: Prediction) -> None:
        label = p.status if p.label is None else f"{names[p.label]}?" if p.status == "refer" else names[p.label]
        share = "-" if p.label is None else f"{p.probabilities[p.label]:.1%}"
        write(f"{label:<{width}}  {share:>6}  {p.ms:7.1f} ms  {name}")

    def refused(name: str, error: str) -> None:
        write(f"{'-':<{width}}  {'-':>6}  {'-':>7}     {name}")
        tell(f"{name}: {error}")

    return answered, refused
