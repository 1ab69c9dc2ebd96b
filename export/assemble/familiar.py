"""The limits of what is familiar, set on images that the Gaussians of their fold were not fitted on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_all.record import Familiarity

from ..head import evaluate, familiarity, fold_checks
from ..head.fold_checks import FoldChecks
from ..head.reference import Reference
from ..quantize.attempt import Attempt

_SEEDS = (1, 2, 3)
"""Of the pictures that are no fields with which limits are drawn in; those that a bundle is shown have another."""


def checks_of(reference: Reference) -> FoldChecks:
    """What judges familiarity in FP32, under the headline protocol."""
    protocol = reference.headline
    return FoldChecks.fit(reference.heads[protocol], reference.rows, reference.splits[protocol], reference.guard)


def measure(reference: Reference, shipped: Mapping[str, Attempt]) -> Familiarity:
    """The limits of what is familiar, and the share of held-out images within them, in percent.

    A refitted head reads other features than FP32's, so its share is not known and not given.
    """
    protocol, guard = reference.headline, reference.guard
    folds, checks, heads = reference.splits[protocol], checks_of(reference), reference.heads[protocol]
    distances = checks.distances(heads, reference.rows.plain, folds)
    most = familiarity.limits(distances)
    drawn_in = fold_checks.factor(distances, most, _strangers(reference, checks, most, shipped))
    most = drawn_in * most
    accepted = {"fp32": _accepted(distances, most)}
    for target, attempt in shipped.items():
        if attempt.head.kind == "refitted":
            continue
        distances = np.zeros_like(distances)
        for own_heads, images in zip(attempt.head.heads, attempt.pair.evaluated, strict=True):
            distances[:, images] = checks.distances(own_heads[protocol], attempt.pair.rows, folds)[:, images]
        accepted[target] = _accepted(distances, most)
    limit, *of_tap = most.tolist()
    found: Familiarity = {
        "protocol": protocol,
        "asked": familiarity.ACCEPTED,
        "limit": limit,
        "drawn_in": drawn_in,
        "accepted": accepted,
    }
    return {**found, "tap": guard.name, "tap_limit": of_tap[0]} if guard else found


def _strangers(
    reference: Reference, checks: FoldChecks, most: np.ndarray, shipped: Mapping[str, Attempt]
) -> np.ndarray:
    """How near the limits pictures that are no fields come, in FP32 and in INT8 (`FoldChecks.shares`)."""
    protocol = reference.headline
    threshold = familiarity.referral(reference.data.labels, reference.answers[protocol], protocol)["threshold"]
    sides = [("openvino", reference.graph, reference.heads[protocol])]
    for target, attempt in shipped.items():
        if attempt.head.kind != "refitted":
            sides.append((target, attempt.pair.graphs[0], attempt.head.heads[0][protocol]))
    return np.concatenate(
        [
            checks.shares(heads, fold_checks.strangers(graph, _SEEDS, target), most, threshold)
            for target, graph, heads in sides
        ]
    )


def limits(record: Familiarity) -> np.ndarray:
    """The limits of a record, ``float64 [P]``: of what the classifier reads, and of an early place if there is one."""
    return np.array([record["limit"], *([record["tap_limit"]] if "tap_limit" in record else [])])


def unfamiliar(reference: Reference, record: Familiarity) -> np.ndarray:
    """Training images beyond a limit of what is familiar, by the Gaussians of their fold: ``bool [N]``."""
    protocol = reference.headline
    heads, folds = reference.heads[protocol], reference.splits[protocol]
    distances = checks_of(reference).distances(heads, reference.rows.plain, folds)
    return ~familiarity.within(distances, limits(record))


def _accepted(distances: np.ndarray, most: np.ndarray) -> float:
    return evaluate.percent(familiarity.within(distances, most).mean(), 2)
