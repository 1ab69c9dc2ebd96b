"""Data sets: read from folders, fetched from Kaggle or drawn, with their near duplicates and their splits."""

from __future__ import annotations

from . import kaggle, synthetic
from .duplicates import groups
from .folder import Dataset, Progress, read
from .splits import FOLDS, PROTOCOLS, folds, leaks

__all__ = ["FOLDS", "PROTOCOLS", "Dataset", "Progress", "folds", "groups", "kaggle", "leaks", "read", "synthetic"]
