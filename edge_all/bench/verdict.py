"""What follows from the rows: which are on the Pareto front, and which one to deploy on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from edge_all import intervals
from edge_all.bench.labels import measured_on
from edge_all.bench.rows import Row

ACCURACY_TOLERANCE = 0.5
"""Percentage points of accuracy that a faster row may have less than the best."""

LEAST_AGREEMENT = 99.0
"""Percent of images that must get the label of the bundle's FP32, where that was measured."""


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Which points are on the Pareto front: no other is at least as accurate and at least as fast, and better in one.

    Args:
        points: Accuracy, and median latency in any unit.
    """

    def is_beaten(accuracy: float, latency: float) -> bool:
        return any(a >= accuracy and ms <= latency and (a, ms) != (accuracy, latency) for a, ms in points)

    return [not is_beaten(*point) for point in points]


def front(rows: Sequence[Row]) -> list[bool]:
    """Which rows are on the Pareto front, where accuracies that are not `told_apart` count as the same.

    So a slower row is on it only if it is more accurate by more than the error of both.

    Args:
        rows: The rows that were measured.
    """

    def is_beaten(row: Row) -> bool:
        ms = row["latency_ms"]["p50"]
        faster = (other for other in rows if other["latency_ms"]["p50"] < ms)
        return any(other["accuracy"] >= row["accuracy"] or not told_apart(row, other) for other in faster)

    points = pareto([(row["accuracy"], row["latency_ms"]["p50"]) for row in rows])
    return [point and not is_beaten(row) for point, row in zip(points, rows, strict=True)]


def told_apart(first: Row, second: Row) -> bool:
    """Whether the accuracies of two rows differ by more than their error: their 95 % intervals do not overlap.

    Without intervals, as for a bundle of an earlier export, two accuracies are told apart where they differ.
    """
    if "intervals" in first and "intervals" in second:
        return not intervals.overlap(first["intervals"]["accuracy"], second["intervals"]["accuracy"])
    return first["accuracy"] != second["accuracy"]


def deploy(rows: Sequence[Row]) -> tuple[Row | None, str]:
    """The row to use on this machine, and why.

    Candidates are the rows whose probe passes and that give `LEAST_AGREEMENT` percent of FP32's labels. Of those within
    `ACCURACY_TOLERANCE` of the most accurate one, the one with the lowest median latency is taken. Rows that were
    measured on training images are candidates only where there are no others.

    A faster candidate that is less accurate than that, but not by more than the error, is named: which of the two is
    better is not known from these images.

    Args:
        rows: The rows that were measured.
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
        f"{chosen['accuracy']:.1f} % on {measured_on(chosen['images'], chosen['accuracy_on'])}, "
        f"{chosen['latency_ms']['p50']:.2f} ms, {chosen['rss_mb']:.0f} MB."
    )
    why += _undecided(chosen, sound)
    if not fair:
        why += " It was trained on these images: measure it on others before you trust it."
    if len(basis) > 1:
        why += " The accuracies were not measured on the same images: compare them with care."
    return chosen, why


def _undecided(chosen: Row, rows: Sequence[Row]) -> str:
    """A sentence on the fastest row that may be as accurate as the chosen one, if it is faster."""
    ms = chosen["latency_ms"]["p50"]
    equal = [row for row in rows if row["latency_ms"]["p50"] < ms and not told_apart(row, chosen)]
    if not equal:
        return ""
    faster = min(equal, key=lambda row: row["latency_ms"]["p50"])
    return (
        f" Not told from it in accuracy, and faster: {faster['bundle']} at {faster['tap']}, {faster['target']} "
        f"{faster['precision']} ({faster['accuracy']:.1f} %, {faster['latency_ms']['p50']:.2f} ms); more images would "
        "decide."
    )
