"""ANOVA: the features with the largest F statistic between classes."""

from __future__ import annotations

from sklearn.feature_selection import SelectKBest, f_classif


def build(count: int, seed: int) -> SelectKBest:
    return SelectKBest(f_classif, k=count)
