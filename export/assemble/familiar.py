"""The limits of what is familiar, set on images that the Gaussians of their fold were not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_all.record import Familiarity

from ..head import evaluate, familiarity
from ..head.familiarity import Early, Gaussian
from ..head.fit import Head
from ..head.reference import Reference
from ..quantize.attempt import Attempt


@dataclass(frozen=True)
class FoldChecks:
    """What judges the images of each fold, fitted on those of all others.

    Attributes:
        gaussians: By fold, over what the heads give.
        early: What gives the others their inputs, by fold; empty where there are none.
        early_gaussians: By fold, over what these give.
    """

    gaussians: Sequence[Gaussian]
    early: Sequence[Early]
    early_gaussians: Sequence[Gaussian]

    def distances(self, heads: Sequence[Head], features: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Distances ``[P, N]`` of images with features ``float32 [N, C]``, in folds ``int64 [N]``; see `limits`."""
        found = [familiarity.held_out(self.gaussians, heads, features, folds)]
        if self.early:
            found.append(familiarity.held_out(self.early_gaussians, self.early, features, folds))
        return np.stack(found)


def fold_checks(reference: Reference) -> FoldChecks:
    """Fit them, in FP32 and under the headline protocol."""
    folds, heads, guard = reference.splits[reference.headline], reference.heads[reference.headline], reference.guard
    early = [Early.fit(guard, reference.rows, folds != k) for k in range(len(heads))] if guard else []
    return FoldChecks(
        familiarity.fit_folds(heads, reference.rows, folds), early, familiarity.fit_folds(early, reference.rows, folds)
    )


def measure(reference: Reference, shipped: Mapping[str, Attempt]) -> Familiarity:
    """The limits of what is familiar, and the share of held-out images within them, in percent.

    A refitted head reads other features than FP32's, so its share is not known and not given.
    """
    protocol, guard = reference.headline, reference.guard
    folds, checks = reference.splits[protocol], fold_checks(reference)
    distances = checks.distances(reference.heads[protocol], reference.rows.plain, folds)
    most = familiarity.limits(distances)
    accepted = {"fp32": _accepted(distances, most)}
    for target, attempt in shipped.items():
        if attempt.head.kind == "refitted":
            continue
        distances = np.zeros_like(distances)
        for own_heads, images in zip(attempt.head.heads, attempt.pair.evaluated, strict=True):
            distances[:, images] = checks.distances(own_heads[protocol], attempt.pair.rows, folds)[:, images]
        accepted[target] = _accepted(distances, most)
    limit, *of_tap = most.tolist()
    found: Familiarity = {"protocol": protocol, "asked": familiarity.ACCEPTED, "limit": limit, "accepted": accepted}
    return {**found, "tap": guard.name, "tap_limit": of_tap[0]} if guard else found


def limits(record: Familiarity) -> np.ndarray:
    """The limits of a record, ``float64 [P]``: of what the classifier reads, and of an early place if there is one."""
    return np.array([record["limit"], *([record["tap_limit"]] if "tap_limit" in record else [])])


def unfamiliar(reference: Reference, record: Familiarity) -> np.ndarray:
    """Training images beyond a limit of what is familiar, by the Gaussians of their fold: ``bool [N]``."""
    protocol = reference.headline
    heads, folds = reference.heads[protocol], reference.splits[protocol]
    distances = fold_checks(reference).distances(heads, reference.rows.plain, folds)
    return ~familiarity.within(distances, limits(record))


def _accepted(distances: np.ndarray, most: np.ndarray) -> float:
    return evaluate.percent(familiarity.within(distances, most).mean(), 2)
