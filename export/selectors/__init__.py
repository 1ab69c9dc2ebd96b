"""Feature selectors: one file each, whose name is the registered name."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from sklearn.base import BaseEstimator


def names() -> tuple[str, ...]:
    """Registered names; nothing is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


DEFAULT_COUNT = 300
"""Features kept where a selector's file does not say otherwise, or all where there are fewer."""


def default_count(name: str) -> int:
    """Features that a selector keeps where nothing is asked for."""
    return int(getattr(import_module(f".{name}", __package__), "DEFAULT_COUNT", DEFAULT_COUNT))


def most_features(name: str, images: int, features: int) -> int:
    """The most features that a selector can keep of so many, fitted on so many images."""
    limited = getattr(import_module(f".{name}", __package__), "LIMITED_BY_IMAGES", False)
    return min(images, features) if limited else features


def build(name: str, count: int, seed: int) -> BaseEstimator:
    """An unfitted transformer that keeps at most `count` features.

    Args:
        name: One of `names`.
        count: Features to keep.
        seed: Of its random choices.
    """
    selector: BaseEstimator = import_module(f".{name}", __package__).build(count, seed)
    return selector
