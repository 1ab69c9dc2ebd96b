"""The nearest training images vote, one vote each.

Cover and Hart 1967, Nearest neighbor pattern classification, doi 10.1109/TIT.1967.1053964.
"""

from __future__ import annotations

from sklearn.neighbors import KNeighborsClassifier

from . import Splits

SETTINGS = ({"neighbours": 5}, {"neighbours": 3}, {"neighbours": 9}, {"neighbours": 15})


def build(seed: int, splits: Splits, *, neighbours: int) -> KNeighborsClassifier:
    return KNeighborsClassifier(neighbours, algorithm="brute")
