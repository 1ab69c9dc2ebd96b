"""PCA: the directions of largest variance. It mixes all channels, so none can be cut from the backbone."""

from __future__ import annotations

from sklearn.decomposition import PCA


def build(count: int, seed: int) -> PCA:
    return PCA(count, svd_solver="full", random_state=seed)
