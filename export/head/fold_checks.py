"""What judges whether the images of a fold are familiar: Gaussians that were fitted on those of all other folds.

Pictures that are no fields are shown to them too, and limits are drawn in where one of them would be answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .. import outsiders
from ..backbones import Guard
from ..features import Rows
from ..graph import edit
from ..runners import engine_of, open_runner
from . import familiarity
from .familiarity import Early, Gaussian
from .fit import Head


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

    @classmethod
    def fit(cls, heads: Sequence[Head], rows: Rows, folds: np.ndarray, guard: Guard | None) -> FoldChecks:
        """Fit them.

        Args:
            heads: A head for each fold.
            rows: Features of N images.
            folds: ``int64 [N]``, the fold in which each image is tested.
            guard: The early places that are judged beside what the heads read; None is none.
        """
        early = [Early.fit(guard, rows, folds != k) for k in range(len(heads))] if guard else []
        gaussians = familiarity.fit_folds(heads, rows, folds)
        return cls(gaussians, early, familiarity.fit_folds(early, rows, folds))

    def distances(self, heads: Sequence[Head], features: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Distances ``[P, N]`` of images with features ``float32 [N, C]``, in folds ``int64 [N]``.

        P is 2 where early places are judged too, else 1; see `familiarity.limits`.
        """
        found = [familiarity.held_out(self.gaussians, heads, features, folds)]
        if self.early:
            found.append(familiarity.held_out(self.early_gaussians, self.early, features, folds))
        return np.stack(found)

    def shares(
        self, heads: Sequence[Head], features: np.ndarray, limits: np.ndarray, threshold: float | None = None
    ) -> np.ndarray:
        """How near pictures that are no fields come to the limits, by the median of the folds.

        Args:
            heads: A head for each fold.
            features: Of M pictures, ``float32 [M, C]``.
            limits: ``float64 [P]``, as `familiarity.limits` sets them.
            threshold: Of the largest probability; below it a picture is referred, however near it is. None does not
                ask for probabilities.

        Returns:
            The largest of a picture's distances, each divided by its limit, ``float64 [M]``; infinite where it would
            be referred.
        """
        everywhere = [np.full(len(features), k) for k in range(len(heads))]
        near = [_largest(self.distances(heads, features, fold), limits) for fold in everywhere]
        if threshold is None:
            return np.asarray(np.median(near, axis=0))
        sure = [head.predict_proba(features).max(1) for head in heads]
        return np.where(np.median(sure, axis=0) >= threshold, np.median(near, axis=0), np.inf)


MARGIN = 1.2
"""Times the limits that what is no field is to be away: others than those that were tried come a little nearer."""

LEAST_ACCEPTED = 98.6
"""Percent of held-out images that pass at least, however near what is no field comes."""


def factor(distances: np.ndarray, limits: np.ndarray, shares: np.ndarray) -> float:
    """By how much limits are drawn in, so that what is no field is beyond them.

    Args:
        distances: Of held-out images, ``[P, N]``.
        limits: ``float64 [P]``.
        shares: Of M pictures that are no fields; see `FoldChecks.shares`.

    Returns:
        What the limits are multiplied with, 1 at most, so that all of the M pictures are `MARGIN` times the limits
        away; they are drawn in no further than `LEAST_ACCEPTED` lets.
    """
    return min(1.0, max(float(shares.min(initial=np.inf)) / MARGIN, least_factor(distances, limits)))


def least_factor(distances: np.ndarray, limits: np.ndarray) -> float:
    """The factor of limits that lets `LEAST_ACCEPTED` percent of held-out images pass; see `factor`."""
    return float(np.quantile(_largest(distances, limits), LEAST_ACCEPTED / 100))


def _largest(distances: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Of each picture's distances ``[P, N]``, each divided by its limit, the largest, ``[N]``."""
    return np.asarray((distances / limits[:, np.newaxis]).max(0))


def strangers(graph: onnx.ModelProto, seeds: Iterable[int], target: str = "openvino") -> np.ndarray:
    """Features of `outsiders` drawn from some seeds, by a backbone in a target's engine, ``float32 [M, C]``."""
    run = open_runner(engine_of(target), graph.SerializeToString())
    size = edit.size(graph)
    return np.stack(run([picture.pixels for seed in seeds for picture in outsiders.pictures(size, seed)]))
