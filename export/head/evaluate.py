"""Accuracy of the full pipeline on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

from edge_all import machine

from .fit import Head

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], Head]
"""Fits a head on rows ``float32 [M, C]``, their labels ``int64 [M]``, and which image each shows, ``int64 [M]``."""


@dataclass(frozen=True)
class Rows:
    """Features of a data set's images.

    Attributes:
        plain: ``float32 [N, C]``: the images as they are.
        copies: ``float32 [N, C]`` each: all images changed by one of `augment.copies`, to be trained on as well.
        copied: ``bool [N]``: the images whose copies are trained on; None is all.
    """

    plain: np.ndarray
    copies: tuple[np.ndarray, ...] = ()
    copied: np.ndarray | None = None

    def take(self, columns: np.ndarray) -> Rows:
        """Only the features of these numbers."""
        return Rows(self.plain[:, columns], tuple(rows[:, columns] for rows in self.copies), self.copied)

    def training(self, images: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images with their copies.

        Args:
            images: ``bool [N]``: which; None is all.

        Returns:
            ``float32 [M, C]``, and which image each row shows, ``int64 [M]``.
        """
        numbers = np.arange(len(self.plain)) if images is None else np.flatnonzero(images)
        again = numbers if self.copied is None else numbers[self.copied[numbers]]
        whole = np.concatenate([self.plain[numbers], *(copy[again] for copy in self.copies)])
        return whole, np.concatenate([numbers, np.tile(again, len(self.copies))])


def fit(rows: Rows, labels: np.ndarray, fit_head: Fit, images: np.ndarray | None = None) -> Head:
    """Fit a head on images and all their copies.

    Args:
        rows: Their features.
        labels: ``int64 [N]``.
        fit_head: Fits a head.
        images: ``bool [N]``: those to fit on; None is all.
    """
    whole, shown = rows.training(images)
    return fit_head(whole, labels[shown], shown)


def fold_heads(rows: Rows, labels: np.ndarray, folds: np.ndarray, fit_head: Fit) -> list[Head]:
    """Fit one head a fold, each on the images of all other folds; scaling, selection and tuning happen inside.

    Args:
        rows: Features of N images.
        labels: ``int64 [N]``.
        folds: ``int64 [N]``, the fold in which each image is tested.
        fit_head: Fits a head.

    Returns:
        The head to test each fold with, by fold number.
    """
    jobs = (delayed(fit)(rows, labels, fit_head, folds != k) for k in range(int(folds.max()) + 1))
    return list(Parallel(n_jobs=machine.usable_cores())(jobs))


def answer(heads: Sequence[Head], features: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Class probabilities ``float64 [N, K]``, each image's by the head that has not seen it."""
    answers = [(folds == k, head) for k, head in enumerate(heads)]
    first = heads[0].predict_proba(features[:1])
    probabilities = np.zeros((len(features), first.shape[1]))
    for tested, head in answers:
        if tested.any():
            probabilities[tested] = head.predict_proba(features[tested])
    return probabilities


def score(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, balanced accuracy, macro F1 and per-class recall, all in percent.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``.
        classes: Their names.
    """
    given = probabilities.argmax(1)
    recalls = recall_score(labels, given, labels=range(len(classes)), average=None, zero_division=0)
    return {
        "accuracy": _percent(accuracy_score(labels, given)),
        "balanced_accuracy": _percent(balanced_accuracy_score(labels, given)),
        "macro_f1": _percent(f1_score(labels, given, average="macro")),
        "recall": {name: _percent(value) for name, value in zip(classes, recalls, strict=True)},
        "images": len(labels),
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of rows of two ``[N, K]`` probabilities with the same label, in percent."""
    return _percent((a.argmax(1) == b.argmax(1)).mean())


def _percent(share: float) -> float:
    return round(100 * float(share), 3)
