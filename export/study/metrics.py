"""What is said of a cell: how often it is right, in which classes, and whether its probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from ..head import evaluate

_BINS = 15


def describe(
    labels: np.ndarray, probabilities: np.ndarray, folds: np.ndarray, classes: Sequence[str]
) -> dict[str, Any]:
    """Metrics of held-out answers, in percent but for ``auroc`` and ``ece``.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        folds: ``int64 [N]``.
        classes: Names.
    """
    whole = evaluate.score(labels, probabilities, classes)
    right = probabilities.argmax(1) == labels
    by_fold = [100 * float(right[folds == k].mean()) for k in range(int(folds.max()) + 1)]
    return {
        "accuracy": whole["accuracy"],
        "accuracy_fold_mean": round(float(np.mean(by_fold)), 3),
        "accuracy_fold_std": round(float(np.std(by_fold, ddof=1)), 3),
        "balanced_accuracy": whole["balanced_accuracy"],
        "macro_f1": whole["macro_f1"],
        **{f"recall_{name}": value for name, value in whole["recall"].items()},
        "auroc": round(auroc(labels, probabilities), 5),
        "ece": round(calibration_error(labels, probabilities), 5),
        **{f"accuracy_fold_{k + 1}": round(value, 3) for k, value in enumerate(by_fold)},
    }


def auroc(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean over the classes of the area under each one's ROC curve against all others.

    Each image's by a head of another fold: scores of different heads are ranked together.
    """
    one_hot = np.eye(probabilities.shape[1])[labels]
    return float(roc_auc_score(one_hot, probabilities, average="macro"))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Expected calibration error of the largest probability, from 0 to 1 (Guo et al. 2017, arXiv 1706.04599)."""
    return float(sum(weight * abs(sure - right) for sure, right, weight in reliability(labels, probabilities)))


def reliability(labels: np.ndarray, probabilities: np.ndarray) -> list[tuple[float, float, float]]:
    """For each bin of equal width that is not empty: mean largest probability, accuracy, and share of the images."""
    sure, right = probabilities.max(1), probabilities.argmax(1) == labels
    number = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    return [
        (float(sure[number == b].mean()), float(right[number == b].mean()), float((number == b).mean()))
        for b in range(_BINS)
        if (number == b).any()
    ]
