"""The five nearest training images vote, one vote each.

Cover and Hart 1967, Nearest neighbor pattern classification, doi 10.1109/TIT.1967.1053964.
"""

from __future__ import annotations

from sklearn.neighbors import KNeighborsClassifier

from . import Splits

NEIGHBOURS = 5


def build(seed: int, splits: Splits) -> KNeighborsClassifier:
    return KNeighborsClassifier(NEIGHBOURS, algorithm="brute")
