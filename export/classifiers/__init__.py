"""Classifiers: one file each, whose name is the registered name."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin


def names() -> tuple[str, ...]:
    """Registered names; nothing is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


Splits = Sequence[tuple[np.ndarray, np.ndarray]]
"""Numbers of the rows to fit and to test on, by fold."""


Setting = Mapping[str, Any]
"""Hyper-parameters of a classifier, by the names of its ``build``."""


def settings(name: str) -> tuple[Setting, ...]:
    """The settings that tuning tries; the first is the default."""
    tried: tuple[Setting, ...] = import_module(f".{name}", __package__).SETTINGS
    return tried


def build(name: str, seed: int, splits: Splits, setting: Setting | None = None) -> ClassifierMixin:
    """An unfitted classifier with ``predict_proba``.

    Args:
        name: One of `names`.
        seed: Of its random choices.
        splits: For what it cross-validates inside; all copies of an image lie on one side.
        setting: Of `settings`, or others of its kind; None is the default.
    """
    classifier: ClassifierMixin = import_module(f".{name}", __package__).build(
        seed, splits, **(setting or settings(name)[0])
    )
    return classifier
