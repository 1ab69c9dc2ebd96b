"""Which images are calibration images, so that no image is evaluated by a graph that was calibrated on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHIPPED_FOLDS = (2, 3, 4)
"""Folds that the graph that ships is calibrated on; folds 0 and 1 are held out from it."""


@dataclass(frozen=True)
class Halves:
    """The data set in two parts: each part's images are evaluated by the graph that was calibrated on the other part.

    The data are divided along the folds of the headline protocol. Two quantizations, one calibrated on each part, give
    every image an INT8 answer that its own pixels had no part in. Images of groups that lie on both sides are never
    calibration images.

    Attributes:
        shipped: ``int64``: numbers of the images that the graph that ships may be calibrated on.
        other: Those of the second graph, which only serves to evaluate the images of the first part.
        evaluated_by_shipped: ``bool [N]``: the images that the graph that ships is evaluated on.
    """

    shipped: np.ndarray
    other: np.ndarray
    evaluated_by_shipped: np.ndarray


def halves(folds: np.ndarray, groups: np.ndarray) -> Halves:
    """Divide a data set.

    Args:
        folds: ``int64 [N]``, each image's fold.
        groups: ``int64 [N]``, its near-duplicate group, merged with the given one if there is any.
    """
    first = np.isin(folds, SHIPPED_FOLDS)
    crossing = np.intersect1d(groups[first], groups[~first])
    alone = ~np.isin(groups, crossing)
    return Halves(np.flatnonzero(first & alone), np.flatnonzero(~first & alone), ~first)
