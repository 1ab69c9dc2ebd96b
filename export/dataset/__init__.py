"""Data sets: read from folders or files of labels, fetched or drawn, with near duplicates, groups and splits."""

from __future__ import annotations

from edge_all.protocols import PROTOCOLS

from . import kaggle, synthetic
from .appearance import looks
from .division import Division, divide
from .duplicates import groups, merged
from .folder import read
from .record import Dataset, spread
from .splits import FOLDS, every, folds, leaks, one

__all__ = [
    "FOLDS",
    "PROTOCOLS",
    "Dataset",
    "Division",
    "divide",
    "every",
    "folds",
    "groups",
    "kaggle",
    "leaks",
    "looks",
    "merged",
    "one",
    "read",
    "spread",
    "synthetic",
]
