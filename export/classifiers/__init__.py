"""Classifiers: one file each, whose name is the registered name."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from sklearn.base import ClassifierMixin


def names() -> tuple[str, ...]:
    """Registered names; nothing is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def build(name: str, seed: int) -> ClassifierMixin:
    """An unfitted classifier with ``predict_proba``.

    Args:
        name: One of `names`.
        seed: Of its random choices.
    """
    classifier: ClassifierMixin = import_module(f".{name}", __package__).build(seed)
    return classifier
