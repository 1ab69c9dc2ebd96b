"""Scores of answers with their error: accuracies, their 95 % intervals, and sensitivity where classes are positive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_all import intervals
from edge_all.errors import DataError
from edge_all.intervals import Units
from edge_all.record import Score

from ..dataset import Dataset
from ..dataset.record import normalized_name
from . import evaluate


@dataclass(frozen=True)
class Scorer:
    """Scores answers to the images of a data set.

    Attributes:
        data: The N images.
        units: What their intervals are resampled over.
        positive: Numbers of the positive classes; empty where none were named.
    """

    data: Dataset
    units: Units
    positive: tuple[int, ...] = ()

    def score(self, probabilities: np.ndarray) -> Score:
        """All figures of class probabilities ``[N, K]``, each with its interval, in percent."""
        labels, answers, classes = self.data.labels, probabilities.argmax(1), self.data.classes
        score = evaluate.score(labels, probabilities, classes)
        score["intervals"] = intervals.of_score(labels, answers, classes, self.units, self.positive)
        return cast(Score, {**score, **intervals.detection(labels, answers, self.positive)})


def resampled(data: Dataset, units: np.ndarray) -> Units:
    """What intervals are resampled over: near-duplicate groups, ``int64 [N]``, or these merged with given groups."""
    return Units(units, intervals.GIVEN_GROUPS if data.given else intervals.NEAR_DUPLICATES)


def positive_classes(classes: Sequence[str], named: Sequence[str]) -> tuple[int, ...]:
    """Numbers of the classes that `--positive` names.

    Raises:
        DataError: There is no such class, or there is no other one.
    """
    known, names = ", ".join(classes), [normalized_name(name) for name in named]
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise DataError(f"--positive {unknown[0]}: no class has this name; wanted one or more of {known}")
    numbers = tuple(sorted({classes.index(name) for name in names}))
    if len(numbers) == len(classes):
        raise DataError(f"--positive names every class ({known}): leave out those that are negative")
    return numbers
