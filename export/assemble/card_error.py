"""The model card on error: 95 % intervals, recall, sensitivity and specificity, and what the referral catches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edge_all import intervals, protocols
from edge_all.record import RecordBody, Score


def lines(record: RecordBody) -> list[str]:
    """What belongs under the table of accuracies."""
    return [*_error(record), *_recall(record), *_detection(record)]


def referral(record: RecordBody) -> str:
    """A sentence on what the threshold was set for, where that is a sensitivity."""
    caught = record["referral"].get("caught")
    if not caught:
        return ""
    passed = f", and {caught['passed']:.1f} % of the others are called negative with `ok`" if "passed" in caught else ""
    return (
        f"This was set for a sensitivity of {caught['wanted']:g} %: out of fold, {caught['reached']:.2f} % "
        f"({intervals.words(caught['interval'], 2)}, over {caught['count']} {caught['over']}) of the positive images "
        f"are called positive, referred or `unfamiliar`{passed}; {record['referral']['coverage']:.1f} % of all images "
        "are answered. "
    )


def _headline(record: RecordBody) -> tuple[str, Score]:
    """The protocol whose figures count, and FP32's."""
    protocol = protocols.headline(record["metrics"])
    return protocol, record["metrics"][protocol]["fp32"]


def _error(record: RecordBody) -> list[str]:
    """What the intervals are, and are not."""
    found = _headline(record)[1].get("intervals")
    if not found:
        return []
    return [
        f"The 95 % intervals are of a bootstrap over {found['count']} {found['over']}. They say how far a figure may "
        "be off because other images of the same origin could have been taken, and nothing of other origins. Figures "
        "whose intervals overlap are not to be ranked.",
        "",
    ]


def _recall(record: RecordBody) -> list[str]:
    protocol, score = _headline(record)
    error = score["intervals"]["recall"] if "intervals" in score else {}
    recalls = ", ".join(f"{name} {value:.1f}{_within(error.get(name))}" for name, value in score["recall"].items())
    return [f"Recall under `{protocol}`, FP32: {recalls}.", ""]


def _detection(record: RecordBody) -> list[str]:
    """Sensitivity and specificity where classes are positive, and what the referral catches."""
    if "positive" not in record:
        return []
    protocol, score = _headline(record)
    scores = {f"`{protocol}`, FP32": score}
    scores |= {
        f"held out, {key.replace('.', ', ')}": score
        for key, score in (record["held_out"]["scores"] if record["held_out"] else {}).items()
    }
    lines = [f"Positive: {', '.join(record['positive'])}. With their 95 % intervals, in percent:", ""]
    lines += [f"- {where}: {_sensitivity(score)}." for where, score in scores.items()]
    return [*lines, ""]


def _sensitivity(score: Score) -> str:
    """Sensitivity and specificity, as far as there are images for them."""
    error: Mapping[str, Any] = score.get("intervals", {})
    given = {name: score[name] for name in _DETECTION if name in score}
    return ", ".join(f"{name} {value:.2f}{_within(error.get(name), 2)}" for name, value in given.items())


_DETECTION: Final = ("sensitivity", "specificity")


def _within(interval: Sequence[float] | None, digits: int = 1) -> str:
    return f" ({intervals.words(interval, digits)})" if interval else ""
