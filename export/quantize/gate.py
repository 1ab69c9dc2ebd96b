"""The gate: how much INT8 may lose, measured on the labels of the full pipeline on held-out images."""

from __future__ import annotations

from collections.abc import Mapping

from edge_all.record import GateVerdict, Score

MOST_BALANCED_LOSS = 0.5
"""Percentage points of balanced accuracy."""

MOST_RECALL_LOSS = 1.5
"""Percentage points of recall, of any class."""

LEAST_AGREEMENT = 99.0
"""Percent of images that must get the same label as with FP32."""

SLACK_IMAGES = 2
"""Images that may always differ: on a few dozen images a single one is more than any of the limits above."""


def judge(fp32: Score, int8: Score, counts: Mapping[str, int], protocol: str = "block") -> GateVerdict:
    """Compare two scores.

    Args:
        fp32: FP32's score.
        int8: INT8's, with ``agreement_fp32``.
        counts: Images of each class.
        protocol: The split protocol of both scores.

    Returns:
        Whether INT8 passes, and what it lost beside what it may lose, in percentage points.
    """
    images = sum(counts.values())
    per_class = {name: fp32["recall"][name] - int8["recall"][name] for name in counts}
    worst = max(per_class, key=lambda name: per_class[name])
    lost = {
        "balanced_accuracy": round(fp32["balanced_accuracy"] - int8["balanced_accuracy"], 3),
        "recall": round(per_class[worst], 3),
        "disagreement": round(100 - int8["agreement_fp32"], 3),
    }
    smallest = min(counts.values())
    allowed = {
        "balanced_accuracy": max(MOST_BALANCED_LOSS, 100 * SLACK_IMAGES / smallest / len(counts)),
        "recall": max(MOST_RECALL_LOSS, 100 * SLACK_IMAGES / counts[worst]),
        "disagreement": max(100 - LEAST_AGREEMENT, 100 * SLACK_IMAGES / images),
    }
    allowed = {name: round(value, 3) for name, value in allowed.items()}
    passed = all(lost[name] <= allowed[name] for name in lost)
    return {"passed": passed, "protocol": protocol, "lost": lost, "allowed": allowed, "worst_class": worst}
