"""The limit of what is familiar, set on images that the Gaussian of their fold was not fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_all.record import Familiarity

from ..head import familiarity
from ..head.familiarity import Early, Gaussian, Reader
from ..head.fit import Head
from ..head.reference import Reference
from ..quantize.attempt import Attempt


@dataclass(frozen=True)
class FoldChecks:
    """What judges the images of each fold, fitted on those of all others.

    Attributes:
        gaussians: By fold.
        early: What gives them their inputs, by fold; None where the heads do.
    """

    gaussians: Sequence[Gaussian]
    early: Sequence[Early] | None

    def distances(self, heads: Sequence[Head], features: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Distance ``[N]`` of images with features ``float32 [N, C]``, in folds ``int64 [N]``."""
        readers: Sequence[Reader] = self.early or heads
        return familiarity.held_out(self.gaussians, readers, features, folds)


def fold_checks(reference: Reference) -> FoldChecks:
    """Fit them, in FP32 and under the headline protocol."""
    folds, heads, guard = reference.splits[reference.headline], reference.heads[reference.headline], reference.guard
    early = [Early.fit(guard, reference.rows, folds != k) for k in range(len(heads))] if guard else None
    return FoldChecks(familiarity.fit_folds(early or heads, reference.rows, folds), early)


def measure(reference: Reference, shipped: Mapping[str, Attempt]) -> Familiarity:
    """The limit of what is familiar, and the share of held-out images within it, in percent.

    A refitted head reads other features than FP32's, so its share is not known and not given, unless the limit is set
    on an early place.
    """
    protocol, guard = reference.headline, reference.guard
    folds, checks = reference.splits[protocol], fold_checks(reference)
    distances = checks.distances(reference.heads[protocol], reference.rows.plain, folds)
    limit = familiarity.limit(distances)
    accepted = {"fp32": familiarity.accepted(distances, limit)}
    for target, attempt in shipped.items():
        if attempt.head.kind == "refitted" and not guard:
            continue
        distances = np.zeros(len(folds))
        for own_heads, images in zip(attempt.head.heads, attempt.pair.evaluated, strict=True):
            distances[images] = checks.distances(own_heads[protocol], attempt.pair.rows, folds)[images]
        accepted[target] = familiarity.accepted(distances, limit)
    found: Familiarity = {"protocol": protocol, "asked": familiarity.ACCEPTED, "limit": limit, "accepted": accepted}
    return {**found, "tap": guard.name} if guard else found


def unfamiliar(reference: Reference, limit: float) -> np.ndarray:
    """Training images beyond the limit of what is familiar, by the Gaussian of their fold: ``bool [N]``."""
    protocol = reference.headline
    heads, folds = reference.heads[protocol], reference.splits[protocol]
    return np.asarray(fold_checks(reference).distances(heads, reference.rows.plain, folds) > limit)
