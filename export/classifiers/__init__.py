"""Classifiers: one file each, whose name is the registered name."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module

import numpy as np
from sklearn.base import ClassifierMixin


def names() -> tuple[str, ...]:
    """Registered names; nothing is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


Splits = Sequence[tuple[np.ndarray, np.ndarray]]
"""Numbers of the rows to fit and to test on, by fold."""


def build(name: str, seed: int, splits: Splits) -> ClassifierMixin:
    """An unfitted classifier with ``predict_proba``.

    Args:
        name: One of `names`.
        seed: Of its random choices.
        splits: For what it cross-validates inside; all copies of an image lie on one side.
    """
    classifier: ClassifierMixin = import_module(f".{name}", __package__).build(seed, splits)
    return classifier
