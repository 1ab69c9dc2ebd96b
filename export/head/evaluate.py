"""Accuracy of the full pipeline on images that it was not fitted on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from joblib import Parallel, delayed
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score

from edge_all import machine
from edge_all.record import Score

from ..features import Rows
from .fit import Head, HeadSpec


def fit(rows: Rows, labels: np.ndarray, spec: HeadSpec, images: np.ndarray | None = None) -> Head:
    """Fit a head on images and all their copies.

    Args:
        rows: Features of N images.
        labels: ``int64 [N]``.
        spec: What the head is made of.
        images: ``bool [N]``: those to fit on; None is all.
    """
    features, shown = rows.training(images)
    return spec.fit(features, labels[shown], shown)


def fold_heads(rows: Rows, labels: np.ndarray, folds: np.ndarray, spec: HeadSpec) -> list[Head]:
    """Fit one head a fold, each on the images of all other folds; scaling, selection and tuning happen inside.

    Args:
        rows: Features of N images.
        labels: ``int64 [N]``.
        folds: ``int64 [N]``, the fold in which each image is tested.
        spec: What the heads are made of.

    Returns:
        The head to test each fold with, by fold number.
    """
    jobs = (delayed(fit)(rows, labels, spec, folds != k) for k in range(int(folds.max()) + 1))
    return list(Parallel(n_jobs=machine.usable_cores())(jobs))


def answer(heads: Sequence[Head], features: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Class probabilities ``float64 [N, K]``, each image's by the head that has not seen it.

    Args:
        heads: By fold number.
        features: ``float32 [N, C]``.
        folds: ``int64 [N]``, the fold in which each image is tested.
    """
    probabilities = np.zeros((len(features), heads[0].classes))
    for k, head in enumerate(heads):
        tested = folds == k
        if tested.any():
            probabilities[tested] = head.predict_proba(features[tested])
    return probabilities


def score(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> Score:
    """Accuracy, balanced accuracy, macro F1 and recall of each class, all in percent.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``.
        classes: Their names.
    """
    predicted = probabilities.argmax(1)
    recalls = recall_score(labels, predicted, labels=range(len(classes)), average=None, zero_division=0)
    return {
        "accuracy": percent(accuracy_score(labels, predicted)),
        "balanced_accuracy": percent(balanced_accuracy_score(labels, predicted)),
        "macro_f1": percent(f1_score(labels, predicted, average="macro")),
        "recall": {name: percent(value) for name, value in zip(classes, recalls, strict=True)},
        "images": len(labels),
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """Share of rows of two ``[N, K]`` probabilities with the same label, in percent."""
    return percent((a.argmax(1) == b.argmax(1)).mean())


def percent(share: float, digits: int = 3) -> float:
    """A fraction, 0 to 1, in percent, rounded to `digits` decimals."""
    return round(100 * float(share), digits)
