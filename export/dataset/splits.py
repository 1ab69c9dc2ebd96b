"""Split protocols: which fold tests which image. They decide what an accuracy means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from edge_all.errors import DataError
from edge_all.protocols import GIVEN_GROUPS, PROTOCOLS

from .record import Dataset

FOLDS = 5
"""Folds of every cross-validation, and so the fewest images that a class may have."""

_TRIES = 20
"""Divisions of given groups that are compared: a greedy one depends on the order in which equal groups come."""


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
        protocol: ``random``: shuffled, stratified; leaks near duplicates. ``grouped``: the same with near-duplicate
            groups kept together. ``block``: each class cut into contiguous runs of its file numbers, the nearest to a
            split by slide where a set does not name its slides or patients. ``given_groups``: the groups that were
            given kept together, with each class in two folds or more.
        k: Number of folds.
        seed: Of the shuffle; ``block`` has none.
        groups: ``int64 [N]``: for ``grouped`` the near-duplicate group of each image (`duplicates.groups`), for
            ``given_groups`` these merged with the given ones (`duplicates.merged`).

    Returns:
        ``int64 [N]``, values in ``[0, k)``.

    Raises:
        ValueError: Unknown protocol, fewer than two folds, or no groups for a protocol that needs them.
        DataError: A class has fewer images than folds, or the groups cannot be divided so.
    """
    known = (*PROTOCOLS, GIVEN_GROUPS)
    if protocol not in known:
        raise ValueError(f"unknown split protocol {protocol!r}; wanted one of {', '.join(known)}")
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
            raise ValueError(
                f"protocol {protocol!r} needs groups; give groups=duplicates.groups(dataset), or merged ones"
            )
        if protocol == GIVEN_GROUPS:
            return _by_group(dataset, groups, k, seed)
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        _check_groups(dataset, groups, k)
    result = np.empty(len(dataset), np.int64)
    for fold, (_, test) in enumerate(splitter.split(dataset.labels, dataset.labels, groups)):
        result[test] = fold
    return result


def every(
    dataset: Dataset, duplicates: npt.NDArray[np.int64], units: npt.NDArray[np.int64], seed: int
) -> dict[str, npt.NDArray[np.int64]]:
    """The folds under every protocol that the data set can be split by, ``given_groups`` last.

    Args:
        dataset: The images.
        duplicates: ``int64 [N]``, near-duplicate groups.
        units: ``int64 [N]``, these merged with the groups that were given, if any were.
        seed: Of the shuffles.
    """
    names = (*PROTOCOLS, GIVEN_GROUPS) if dataset.given else PROTOCOLS
    return {name: one(dataset, name, duplicates, units, seed) for name in names}


def one(
    dataset: Dataset, protocol: str, duplicates: npt.NDArray[np.int64], units: npt.NDArray[np.int64], seed: int
) -> npt.NDArray[np.int64]:
    """The folds under one protocol; arguments as for `every`."""
    return folds(dataset, protocol, seed=seed, groups=units if protocol == GIVEN_GROUPS else duplicates)


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


def _by_group(dataset: Dataset, units: npt.NDArray[np.int64], k: int, seed: int) -> npt.NDArray[np.int64]:
    """The most even of some divisions of the groups in which every fold has images, and every class is in two folds.

    Raises:
        DataError: There is none.
    """
    labels, count = dataset.labels, len(np.unique(units))
    if count < k:
        raise DataError(
            f"the {len(dataset)} images are of {count} groups (near-duplicates join groups), and {k} folds want {k} or "
            "more: give finer groups, or leave the groups out"
        )
    for label, name in enumerate(dataset.classes):
        if len(np.unique(units[labels == label])) < 2:
            raise DataError(
                f"class {name!r} is in one group only, and two or more are wanted, so that it is tested on a "
                "group that was not trained on: add images of another patient or slide"
            )
    tried = []
    for number in range(seed, seed + _TRIES):
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=number)
        result = np.empty(len(labels), np.int64)
        for fold, (_, test) in enumerate(splitter.split(labels, labels, units)):
            result[test] = fold
        table = np.stack([np.bincount(labels[result == fold], minlength=len(dataset.classes)) for fold in range(k)])
        if table.sum(1).all() and ((table > 0).sum(0) >= 2).all():
            tried.append((float((table / table.sum(0)).std(0).sum()), number, result))
    if not tried:
        raise DataError(
            f"the {count} groups cannot be divided into {k} folds with every class in two: give finer groups"
        )
    return min(tried, key=lambda division: division[:2])[2]
