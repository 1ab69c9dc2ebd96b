"""The scores of a bundle's record as tables, with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from edge_all.cli.output import print_table, say
from edge_all.record import Record, Score

if TYPE_CHECKING:
    from edge_all.bench.rows import Accuracy


def show(record: Record) -> None:
    """Print a row for each split and precision; with positive classes, their sensitivity and specificity below it."""
    rows, positive = [], []
    for split, precision, score in _scores(record):
        same = f"{score['agreement_fp32']:.1f}" if "agreement_fp32" in score else "-"
        figures = f"{score['accuracy']:.1f}", accuracy_interval(score), f"{score['balanced_accuracy']:.1f}", same
        rows.append([split, precision, *figures])
        positive.append([split, precision, detection(score, "sensitivity"), detection(score, "specificity")])
    print_table(["split", "precision", *_FIGURES], rows, right=_FIGURES)
    if "positive" in record:
        say()
        print_table(["split", "precision", *_DETECTION], positive, right=_DETECTION)


def remarks(record: Record) -> Iterator[str]:
    """What a reader must know of the tables."""
    yield "acc: accuracy; bal: balanced accuracy, the mean of the classes' recalls; =fp32: images with FP32's label."
    resampled = dict.fromkeys(
        f"{found['count']} {found['over']}{' held out' if split == _HELD_OUT else ''}"
        for split, _, score in _scores(record)
        if (found := score.get("intervals"))
    )
    if resampled:
        yield f"95 %: interval of the accuracy, by bootstrap over {', '.join(resampled)}."
    if positive := record.get("positive"):
        yield f"sensitivity, specificity: {', '.join(positive)} against the other classes, with their 95 % intervals."


def accuracy_interval(score: Score | Accuracy) -> str:
    """The interval of the accuracy, such as "97.9-98.8"."""
    from edge_all import intervals

    return intervals.words(score["intervals"]["accuracy"]) if "intervals" in score else "-"


def detection(score: Score | Accuracy, name: Literal["sensitivity", "specificity"]) -> str:
    """Sensitivity or specificity with its interval, such as "99.1 (98.6-99.5)"."""
    from edge_all import intervals

    if name not in score:
        return "-"
    error = score.get("intervals", {}).get(name)
    return f"{score[name]:.1f}" + (f" ({intervals.words(error)})" if error else "")


_HELD_OUT = "held out"

_FIGURES = ("acc %", "95 %", "bal %", "=fp32 %")

_DETECTION = ("sensitivity %", "specificity %")


def _scores(record: Record) -> Iterator[tuple[str, str, Score]]:
    """Split, precision and score of everything that was measured, also of what the gate refused."""

    def named(precision: str, target: str) -> str:
        return f"{precision} {target}" + ("" if precision in record["models"][target] else ", refused")

    for protocol, metrics in record["metrics"].items():
        yield protocol, "fp32", metrics["fp32"]
        if "fp16" in metrics:
            yield protocol, named("fp16", "gpu"), metrics["fp16"]
        if "int8" in metrics:
            for target, score in metrics["int8"]["targets"].items():
                yield protocol, named("int8", target), score
    held_out = record["held_out"]
    for name, score in (held_out["scores"] if held_out else {}).items():
        target, _, precision = name.partition(".")
        yield _HELD_OUT, f"{precision} {target}", score
