"""Split protocols: which fold tests which image. They decide what an accuracy means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from edge_all.errors import DataError

from .record import Dataset

FOLDS = 5
"""Folds of every cross-validation, and so the fewest images that a class may have."""

PROTOCOLS = ("random", "grouped", "block")
"""``random``: shuffled, stratified; leaks near duplicates. ``grouped``: the same with near-duplicate groups kept
together. ``block``: each class cut into contiguous runs of its file numbers, the nearest to a split by slide where a
set does not name its slides or patients."""


def folds(
    dataset: Dataset,
    protocol: str,
    *,
    k: int = FOLDS,
    seed: int = 0,
    groups: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.int64]:
    """Give each image the fold in which it is tested; in all others it trains.

    Args:
        dataset: The images, in natural order within each class.
        protocol: One of `PROTOCOLS`.
        k: Number of folds.
        seed: Of the shuffle; ``block`` has none.
        groups: ``int64 [N]``, near-duplicate group of each image (`duplicates.groups`); ``grouped`` needs them.

    Returns:
        ``int64 [N]``, values in ``[0, k)``.

    Raises:
        ValueError: Unknown protocol, fewer than two folds, or ``grouped`` without groups.
        DataError: A class has fewer images than folds, or under ``grouped`` cannot be split at all.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown split protocol {protocol!r}; wanted one of {', '.join(PROTOCOLS)}")
    if k < 2:
        raise ValueError(f"{k} folds; wanted 2 or more")
    for name, count in dataset.counts.items():
        if count < k:
            raise DataError(f"class {name!r} has {count} images for {k} folds; add images or ask for fewer folds")
    if protocol == "block":
        return _block(dataset.labels, k)
    if protocol == "random":
        splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
        groups = None
    else:
        if groups is None:
            raise ValueError("protocol 'grouped' needs near-duplicate groups; give groups=duplicates.groups(dataset)")
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        _check_groups(dataset, groups, k)
    result = np.empty(len(dataset), np.int64)
    for fold, (_, test) in enumerate(splitter.split(dataset.labels, dataset.labels, groups)):
        result[test] = fold
    return result


def leaks(folds: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> int:
    """Number of images that have a near duplicate in another fold: tested on what was, nearly, trained on."""
    crossing = [group for group in np.unique(groups) if len(np.unique(folds[groups == group])) > 1]
    return int(np.isin(groups, crossing).sum())


def _block(labels: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int64]:
    result = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        for fold, run in enumerate(np.array_split(np.flatnonzero(labels == label), k)):
            result[run] = fold
    return result


def _check_groups(dataset: Dataset, groups: npt.NDArray[np.int64], k: int) -> None:
    for label, name in enumerate(dataset.classes):
        count = len(np.unique(groups[dataset.labels == label]))
        if count < k:
            raise DataError(
                f"class {name!r} has {count} groups of near-duplicate images for {k} folds; "
                "add images of other fields or ask for fewer folds"
            )
