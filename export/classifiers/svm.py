"""RBF support vector machine, one class against the rest, with Platt's probabilities.

One against the rest, not scikit-learn's default of one against one: its decision values are smooth, where votes jump
when two classes are near, which makes poor probabilities and lets INT8's rounding flip labels. SVC(probability=True) is
deprecated.

Platt 1999, Probabilistic outputs for support vector machines; Rifkin and Klautau 2004, In Defense of One-Vs-All.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC
from sklearn.utils import gen_batches

from edge_all import machine, parallel

from . import Splits

SETTINGS = ({"penalty": 10.0}, {"penalty": 1.0}, {"penalty": 100.0})

_LARGEST_KERNEL = 3 * 2**29
"""Bytes of a kernel matrix that is computed before the SVMs are fitted; a larger one is computed as they need it."""

_BATCH = 512
"""Rows whose kernel is computed at once."""

_CACHE = 1000
"""Megabytes of kernel rows that one SVM keeps."""


def build(seed: int, splits: Splits, *, penalty: float) -> Svm:
    return Svm(penalty, splits)


class Svm(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """SVMs of one class against the rest, and a sigmoid for each that makes a probability of its decision.

    It is what scikit-learn's CalibratedClassifierCV(OneVsRestClassifier(SVC()), ensemble=False) would be: the sigmoids
    are fitted on decisions for rows that were left out, the SVMs on all. But the kernel is computed once for all fits.
    Without splits no sigmoid is fitted: the label is that of the largest decision, and the probabilities mean nothing.

    Attributes:
        classes_: Numbers of the classes, ``[K]``.
        machines_: The SVMs.
        slopes_: ``float64 [K]`` (``[1]`` with two classes): of the sigmoids ``1 / (1 + exp(slope * d + offset))``.
        offsets_: Likewise.
    """

    def __init__(self, penalty: float = 10.0, splits: Splits = ()) -> None:
        self.penalty = penalty
        self.splits = splits

    def fit(self, X: np.ndarray, y: np.ndarray) -> Svm:
        """Fit on ``[N, F]`` and ``int64 [N]``."""
        kernel = Kernel.of(np.asarray(X, np.float64))
        self.classes_, self.n_features_in_ = np.unique(y), kernel.rows.shape[1]
        machines = len(_told_apart(self.classes_))
        sigmoids = _sigmoids(self._left_out(kernel, y), y) if len(self.splits) else [(-1.0, 0.0)] * machines
        self.slopes_, self.offsets_ = (np.array(column) for column in zip(*sigmoids, strict=True))
        self.machines_ = OneAgainstRest(self.penalty).fit_on(kernel, np.arange(len(y)), y)
        return self

    def _left_out(self, kernel: Kernel, y: np.ndarray) -> np.ndarray:
        """Decisions for each row, ``float64 [N, K]``, by SVMs that were not fitted on it."""
        decisions = np.zeros((len(y), len(_told_apart(self.classes_))))
        for fitted, tested in self.splits:
            machines = OneAgainstRest(self.penalty).fit_on(kernel, fitted, y)
            decisions[tested] = kernel.between(tested, machines.support_) @ machines.weights_ + machines.intercepts_
        return decisions

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities ``float64 [N, K]`` for ``[N, F]``."""
        exponents = self.machines_.decisions(X) * self.slopes_ + self.offsets_
        each = 1 / (1 + np.exp(np.clip(exponents, -500, 500)))
        if len(self.classes_) == 2:
            return np.hstack([1 - each, each])
        return np.asarray(each / each.sum(1, keepdims=True))

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class of each row, ``[N]``."""
        return np.asarray(self.classes_[self.predict_proba(X).argmax(1)])


class OneAgainstRest:
    """SVMs of one class against the rest, which share one kernel and their support vectors.

    The decisions are those of scikit-learn's OneVsRestClassifier(SVC()), which evaluates the kernel for each class.

    Attributes:
        classes_: Numbers of the classes, ``[K]``.
        gamma_: Of the kernel: one by the count of features and their variance.
        support_: ``int64 [S]``: numbers of the rows that are support vectors of one of the SVMs.
        support_vectors_: ``float64 [S, F]``: these rows.
        weights_: ``float64 [S, K]``: each SVM's dual weights on them; with two classes there is one SVM, whose decision
            is for the second.
        intercepts_: ``float64 [K]``, likewise.
    """

    def __init__(self, penalty: float = 10.0) -> None:
        self.penalty = penalty

    def fit_on(self, kernel: Kernel, rows: np.ndarray, y: np.ndarray) -> OneAgainstRest:
        """Fit on some of a kernel's rows, ``int64``, with ``int64 [N]`` the classes of all."""
        self.classes_, self.gamma_ = np.unique(y[rows]), kernel.gamma
        matrix, labels = kernel.part(rows), y[rows]

        def machine_of(chosen: int) -> SVC:
            if matrix is None:
                svc = SVC(C=self.penalty, gamma=self.gamma_, cache_size=_CACHE)
                return svc.fit(kernel.rows[rows], labels == chosen)
            with config_context(assume_finite=True):  # looking through the matrix takes as long as fitting some
                return SVC(C=self.penalty, kernel="precomputed", cache_size=_CACHE).fit(matrix, labels == chosen)

        machines = parallel.each(machine_of, _told_apart(self.classes_), machine.usable_cores())
        support = np.unique(np.concatenate([machine.support_ for machine in machines]))
        self.support_ = rows[support]
        self.support_vectors_ = kernel.rows[self.support_]
        self.weights_ = np.zeros((len(support), len(machines)))
        for k, fitted in enumerate(machines):
            self.weights_[np.searchsorted(support, fitted.support_), k] = fitted.dual_coef_[0]
        self.intercepts_ = np.array([fitted.intercept_[0] for fitted in machines])
        return self

    def decisions(self, X: np.ndarray) -> np.ndarray:
        """Decisions of the SVMs, ``float64 [N, K]`` (``[N, 1]`` with two classes), for ``[N, F]``."""
        X = np.asarray(X, np.float64)
        parts = [X[batch] for batch in gen_batches(len(X), _BATCH)]
        products = [rbf_kernel(part, self.support_vectors_, gamma=self.gamma_) @ self.weights_ for part in parts]
        return np.asarray(np.concatenate(products) + self.intercepts_)


@dataclass(frozen=True)
class Kernel:
    """The RBF kernel ``exp(-gamma * |a - b|**2)`` between rows.

    Attributes:
        rows: ``float64 [N, F]``.
        gamma: One by the count of features and their variance.
        matrix: ``float64 [N, N]``, of float32's precision, in which libsvm computes too; None where it is too large.
    """

    rows: np.ndarray
    gamma: float
    matrix: np.ndarray | None

    @classmethod
    def of(cls, rows: np.ndarray) -> Kernel:
        """The kernel of ``float64 [N, F]``."""
        gamma = 1 / (rows.shape[1] * (rows.var() or 1.0))
        return cls(rows, gamma, _matrix(rows, gamma) if 8 * len(rows) ** 2 <= _LARGEST_KERNEL else None)

    def part(self, rows: np.ndarray) -> np.ndarray | None:
        """The matrix of some rows among each other."""
        if self.matrix is None or len(rows) == len(self.rows):
            return self.matrix
        return np.asarray(self.matrix[np.ix_(rows, rows)])

    def between(self, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
        """The kernel between rows and others, both by their numbers."""
        if self.matrix is None:
            return np.asarray(rbf_kernel(self.rows[rows], self.rows[others], gamma=self.gamma))
        return np.asarray(self.matrix[np.ix_(rows, others)])


def _matrix(rows: np.ndarray, gamma: float) -> np.ndarray:
    """The kernel among all rows, one half computed in float32, a few rows at a time, and the other mirrored."""
    scaled = (rows * np.sqrt(2 * gamma)).astype(np.float32)
    half_norms = (scaled**2).sum(1) / 2
    matrix = np.empty((len(rows), len(rows)))
    for batch in gen_batches(len(rows), _BATCH):
        after = slice(batch.start, None)
        exponents = scaled[batch] @ scaled[after].T
        exponents -= half_norms[batch, None]
        exponents -= half_norms[after]
        values = np.exp(np.minimum(exponents, 0, out=exponents), out=exponents)
        matrix[batch, after] = values
        matrix[after, batch] = values.T
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _told_apart(classes: np.ndarray) -> list[int]:
    """The classes that have an SVM: all, or the second of two."""
    return [int(k) for k in (classes if len(classes) > 2 else classes[1:])]


def _sigmoids(decisions: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """Slope and offset of the sigmoid of each column of decisions, as scikit-learn fits them."""
    every = np.arange(len(y))
    calibrated = CalibratedClassifierCV(_Decisions(), cv=[(every, every)], ensemble=False).fit(decisions, y)
    return [(float(sigmoid.a_), float(sigmoid.b_)) for sigmoid in calibrated.calibrated_classifiers_[0].calibrators]


class _Decisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Gives decisions as they are."""

    def fit(self, X: np.ndarray, y: np.ndarray) -> _Decisions:
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        return X if X.shape[1] > 1 else X[:, 0]

    def predict(self, X: np.ndarray) -> np.ndarray:
        raise NotImplementedError("only its decisions are asked for")
