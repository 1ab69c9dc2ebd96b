"""Random forest. Leaves of two and a limited depth keep the graph at a few megabytes.

Breiman 2001, Random Forests, doi 10.1023/A:1010933404324.
"""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier

from . import Splits

TREES = 200
DEEPEST = 14


def build(seed: int, splits: Splits) -> RandomForestClassifier:
    return RandomForestClassifier(TREES, max_depth=DEEPEST, min_samples_leaf=2, random_state=seed)
