"""Lasso: the features whose weight survives an L1 penalty that all classes share.

Class numbers have no order, so the regression is on one-hot targets, with the multi-task Lasso: a feature is kept or
dropped for all classes together (Obozinski, Taskar and Jordan 2010, doi 10.1007/s11222-008-9111-x).
"""

from __future__ import annotations

from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import MultiTaskLasso
from sklearn.preprocessing import OneHotEncoder

PENALTY = 0.01
"""Keeps a few hundred of 1,280 standardised features; the strongest `count` of them are taken."""


def build(count: int, seed: int) -> SelectFromModel:
    lasso = MultiTaskLasso(alpha=PENALTY, max_iter=2000, tol=1e-3)
    one_hot = TransformedTargetRegressor(lasso, transformer=OneHotEncoder(sparse_output=False), check_inverse=False)
    return SelectFromModel(one_hot, threshold=1e-10, max_features=count, importance_getter="regressor_.coef_")
