"""Looks: images of a class that are alike in colour and contrast, as those of one slide, stain and lamp are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from .record import Dataset

LOOKS = 5
"""Looks of each class, and so the fewest images that a class may have."""

_MOST = 0.5  # of a class's images in one look, so that a head can be fitted without it


def looks(dataset: Dataset, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """Give each image the number of its look.

    Every class is clustered by itself, so that leaving out a look leaves images of every class, also where the stain
    gives the class away. The numbers are ordered by what images of all classes differ in most, so that looks with one
    number are alike. A class with a cluster of over half of its images is cut in this order, into equal parts.

    Args:
        dataset: Labels and thumbnails are looked at: mean and standard deviation of each channel, in grey levels.
        seed: Of k-means.

    Returns:
        ``int64 [N]``, values in ``[0, LOOKS)``.
    """
    pixels = dataset.thumbnails.reshape(len(dataset), -1, 3).astype(np.float64)
    points = np.concatenate([pixels.mean(1), pixels.std(1)], axis=1)
    points -= points.mean(0)
    place = points @ np.linalg.svd(points, full_matrices=False)[2][0]
    result = np.empty(len(dataset), np.int64)
    for label in np.unique(dataset.labels):
        images = np.flatnonzero(dataset.labels == label)
        result[images] = _of_class(points[images], place[images], seed)
    return result


def _of_class(points: npt.NDArray[np.float64], place: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """Looks of one class: `points`, ``[M, 6]``, clustered and numbered by their `place`, ``[M]``."""
    if len(np.unique(points, axis=0)) >= LOOKS:
        clusters = KMeans(LOOKS, n_init=10, random_state=seed).fit_predict(points)
        sizes = np.bincount(clusters, minlength=LOOKS)
        if sizes.max() <= _MOST * len(points):
            order = np.argsort(np.bincount(clusters, place, LOOKS) / sizes)
            return np.asarray(np.argsort(order)[clusters])
    result = np.empty(len(points), np.int64)
    for number, part in enumerate(np.array_split(np.argsort(place, kind="stable"), LOOKS)):
        result[part] = number
    return result
