"""Random forest. A limited depth keeps the graph at a few megabytes.

Breiman 2001, Random Forests, doi 10.1023/A:1010933404324.
"""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier

from . import Splits

TREES = 200
DEEPEST = 14
SETTINGS = ({"least_in_leaf": 2}, {"least_in_leaf": 1}, {"least_in_leaf": 5})


def build(seed: int, splits: Splits, *, least_in_leaf: int) -> RandomForestClassifier:
    return RandomForestClassifier(TREES, max_depth=DEEPEST, min_samples_leaf=least_in_leaf, random_state=seed)
