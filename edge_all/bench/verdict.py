"""What the rows say: which are worth having, and which one to deploy here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

ACCURACY_TOLERANCE = 0.5
"""Points of accuracy that a faster row may lose against the best."""

LEAST_AGREEMENT = 99.0
"""Percent of labels that a row must share with its own bundle's FP32, where that was measured."""


def pareto(rows: Sequence[dict[str, Any]]) -> list[bool]:
    """Whether no other row is both at least as accurate and at least as fast (latency p50), and better in one."""

    def beaten(row: dict[str, Any]) -> bool:
        own = row["accuracy"], -row["latency_ms"]["p50"]
        others = ((other["accuracy"], -other["latency_ms"]["p50"]) for other in rows if other is not row)
        return any(a >= own[0] and b >= own[1] and (a, b) != own for a, b in others)

    return [not beaten(row) for row in rows]


def deploy(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any] | None, str]:
    """The row to use here, and why.

    Of the rows whose probe passes and that share `LEAST_AGREEMENT` of FP32's labels, those within
    `ACCURACY_TOLERANCE` of the most accurate; of these the one with the lowest median latency. Rows measured on images
    that their bundle was trained on count only while there are no others.

    Args:
        rows: Of `edge_all.bench.run`, without those that failed.
    """
    sound = [row for row in rows if row["probe"]["passed"] and (row["agreement_fp32"] or 100.0) >= LEAST_AGREEMENT]
    fair = [row for row in sound if row["accuracy_on"] != "seen images"]
    sound = fair or sound
    if not sound:
        return None, "Deploy: none of these here: no row passes its probe and keeps FP32's labels."
    best = max(row["accuracy"] for row in sound)
    chosen = min(
        (row for row in sound if row["accuracy"] >= best - ACCURACY_TOLERANCE), key=lambda row: row["latency_ms"]["p50"]
    )
    basis = {(row["accuracy_on"], row["images"]) for row in sound}
    why = (
        f"Deploy: {chosen['bundle']} at {chosen['tap']} with --target {chosen['target']} "
        f"--precision {chosen['precision']}: "
        f"{chosen['accuracy']:.1f} % on {chosen['images']} {chosen['accuracy_on']}, "
        f"{chosen['latency_ms']['p50']:.2f} ms, {chosen['rss_mb']:.0f} MB."
    )
    if not fair:
        why += " It was trained on these images: measure it on others before you trust it."
    if len(basis) > 1:
        why += " The accuracies were not measured on the same images: compare them with care."
    return chosen, why
