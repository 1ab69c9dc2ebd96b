"""Which images activation ranges are measured on, so that no image is judged by a graph that was calibrated on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHIPPED_FOLDS = (2, 3, 4)
"""``block`` folds that the shipped graph is calibrated on; folds 0 and 1 are held out from it."""


@dataclass(frozen=True)
class Halves:
    """Two calibration sets and who may be judged after which.

    The data are cut in two along the ``block`` folds. The graph calibrated on one part answers for the other, so two
    quantizations give every image an INT8 answer that its own pixels had no part in. Near-duplicate groups with images
    on both sides are never calibrated on.

    Attributes:
        shipped: Image numbers that the shipped graph may be calibrated on.
        other: Those of the second graph, which exists only to judge the images of the shipped one's part.
        judged_by_shipped: ``bool [N]``: the images that the shipped graph answers for.
    """

    shipped: np.ndarray
    other: np.ndarray
    judged_by_shipped: np.ndarray


def halves(block: np.ndarray, groups: np.ndarray) -> Halves:
    """Cut a data set in two.

    Args:
        block: ``int64 [N]``, each image's fold under ``block``.
        groups: ``int64 [N]``, its near-duplicate group.
    """
    first = np.isin(block, SHIPPED_FOLDS)
    crossing = np.intersect1d(groups[first], groups[~first])
    alone = ~np.isin(groups, crossing)
    return Halves(np.flatnonzero(first & alone), np.flatnonzero(~first & alone), ~first)


def spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """At most so many, evenly spread over all, which are sorted by class and file."""
    return numbers[np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)]
