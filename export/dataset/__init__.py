"""Data sets: read from folders, fetched from Kaggle or drawn, with their near duplicates and their splits."""

from __future__ import annotations

from . import kaggle, synthetic
from .appearance import looks
from .duplicates import groups
from .folder import read
from .record import Dataset, spread
from .splits import FOLDS, PROTOCOLS, folds, leaks

__all__ = [
    "FOLDS",
    "PROTOCOLS",
    "Dataset",
    "folds",
    "groups",
    "kaggle",
    "leaks",
    "looks",
    "read",
    "spread",
    "synthetic",
]
