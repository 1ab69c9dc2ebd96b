"""Gaussian naive Bayes. Its probabilities are overconfident: selected features are far from independent."""

from __future__ import annotations

from sklearn.naive_bayes import GaussianNB

from . import Splits

SETTINGS = ({"smoothing": 1e-3}, {"smoothing": 1e-9}, {"smoothing": 1e-2}, {"smoothing": 1e-1})


def build(seed: int, splits: Splits, *, smoothing: float) -> GaussianNB:
    return GaussianNB(var_smoothing=smoothing)
