"""RBF support vector machine, one class against the rest, with Platt's probabilities.

One against the rest, not scikit-learn's default of one against one: its decision values are smooth, where votes jump
when two classes are near, which makes poor probabilities and lets INT8's rounding flip labels. SVC(probability=True) is
deprecated; CalibratedClassifierCV with ``ensemble=False`` fits one sigmoid a class on cross-validated decision values
and one SVM on everything.

Platt 1999, Probabilistic outputs for support vector machines; Rifkin and Klautau 2004, In Defense of One-Vs-All.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC
from sklearn.utils import gen_batches

from . import Splits

SETTINGS = ({"penalty": 10.0}, {"penalty": 1.0}, {"penalty": 100.0})

_LARGEST_KERNEL = 2**30
"""Bytes of a kernel matrix that is computed before the SVMs are fitted; a larger one is computed as they need it."""

_BATCH = 2048
"""Rows whose kernel is computed at once."""


def build(seed: int, splits: Splits, *, penalty: float) -> CalibratedClassifierCV:
    return CalibratedClassifierCV(OneAgainstRest(penalty), cv=splits, ensemble=False)


class OneAgainstRest(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """SVMs of one class against the rest, which share one kernel and their support vectors.

    The decisions are those of scikit-learn's OneVsRestClassifier(SVC()), which evaluates the kernel for each class.

    Attributes:
        classes_: Numbers of the classes, ``[K]``.
        gamma_: Of the kernel: one by the count of features and their variance.
        support_vectors_: ``float64 [S, F]``: of all SVMs.
        weights_: ``float64 [S, K]``: each SVM's dual weights on them; with two classes there is one SVM, whose decision
            is for the second.
        intercepts_: ``float64 [K]``, likewise.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.penalty = penalty

    def fit(self, X: np.ndarray, y: np.ndarray) -> OneAgainstRest:
        """Fit on ``[N, F]`` and ``int64 [N]``."""
        X = np.asarray(X, np.float64)
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.gamma_ = 1 / (X.shape[1] * (X.var() or 1.0))
        kernel = rbf_kernel(X, gamma=self.gamma_) if 8 * len(X) ** 2 <= _LARGEST_KERNEL else None
        chosen = self.classes_ if len(self.classes_) > 2 else self.classes_[1:]
        machines = [self._machine(X, kernel, y == k) for k in chosen]
        support = np.unique(np.concatenate([machine.support_ for machine in machines]))
        self.support_vectors_ = X[support]
        self.weights_ = np.zeros((len(support), len(machines)))
        for k, machine in enumerate(machines):
            self.weights_[np.searchsorted(support, machine.support_), k] = machine.dual_coef_[0]
        self.intercepts_ = np.array([machine.intercept_[0] for machine in machines])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Decisions ``float64 [N, K]``, or ``[N]`` with two classes, for ``[N, F]``."""
        X = np.asarray(X, np.float64)
        parts = [X[batch] for batch in gen_batches(len(X), _BATCH)]
        products = [rbf_kernel(part, self.support_vectors_, gamma=self.gamma_) @ self.weights_ for part in parts]
        decisions = np.concatenate(products) + self.intercepts_
        return np.asarray(decisions if len(self.classes_) > 2 else decisions[:, 0])

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class of each row, ``[N]``."""
        decisions = self.decision_function(X)
        chosen = decisions.argmax(1) if decisions.ndim == 2 else (decisions > 0).astype(int)
        return np.asarray(self.classes_[chosen])

    def _machine(self, X: np.ndarray, kernel: np.ndarray | None, is_class: np.ndarray) -> SVC:
        if kernel is None:
            return SVC(C=self.penalty, gamma=self.gamma_).fit(X, is_class)
        return SVC(C=self.penalty, kernel="precomputed").fit(kernel, is_class)
