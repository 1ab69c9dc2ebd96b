"""Metrics of a cell: how often its held-out answers are right, for which classes, and how well they are calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from ..head import evaluate

_BINS = 15


@dataclass(frozen=True)
class Scores:
    """Metrics of held-out answers, in percent but for ``auroc`` and ``ece``, which lie between 0 and 1.

    Attributes:
        accuracy: Over all images.
        accuracy_fold_mean: Mean over the folds.
        accuracy_fold_std: Standard deviation over the folds (of a sample).
        balanced_accuracy: Mean of the recalls.
        macro_f1: Mean of the F1 scores of the classes.
        recall: Of each class, by its name.
        auroc: Area under the ROC curve, see `auroc`.
        ece: Expected calibration error, see `calibration_error`.
        accuracy_by_fold: In the order of the folds.
    """

    accuracy: float
    accuracy_fold_mean: float
    accuracy_fold_std: float
    balanced_accuracy: float
    macro_f1: float
    recall: Mapping[str, float]
    auroc: float
    ece: float
    accuracy_by_fold: tuple[float, ...]


def scores(labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray, classes: Sequence[str]) -> Scores:
    """All metrics of held-out answers.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        folds: ``int64 [N]``.
        classes: Names.
    """
    overall = evaluate.score(labels, probabilities, classes)
    right = probabilities.argmax(1) == labels
    by_fold = [100 * float(right[folds == k].mean()) for k in range(int(folds.max()) + 1)]
    return Scores(
        accuracy=overall["accuracy"],
        accuracy_fold_mean=round(float(np.mean(by_fold)), 3),
        accuracy_fold_std=round(float(np.std(by_fold, ddof=1)), 3),
        balanced_accuracy=overall["balanced_accuracy"],
        macro_f1=overall["macro_f1"],
        recall=overall["recall"],
        auroc=round(auroc(labels, probabilities), 5),
        ece=round(calibration_error(labels, probabilities), 5),
        accuracy_by_fold=tuple(round(value, 3) for value in by_fold),
    )


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of each class against all others, averaged over the classes.

    The probabilities come from the heads of all folds and are ranked together.
    """
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(roc_auc_score(one_hot, probabilities, average="macro"))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of the largest probability, from 0 to 1 (Guo et al. 2017, arXiv 1706.04599)."""
    bins = reliability(labels, probabilities)
    return float(sum(share * abs(confidence - accuracy) for confidence, accuracy, share in bins))


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[float, float, float]]:
    """For each bin of equal width that is not empty: mean largest probability, accuracy, and share of the images."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    return [
        (float(confidence[number == b].mean()), float(right[number == b].mean()), float((number == b).mean()))
        for b in range(_BINS)
        if (number == b).any()
    ]
