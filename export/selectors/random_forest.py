"""Random-forest importances: the features with the largest mean decrease in impurity.

Breiman 2001, Random Forests, doi 10.1023/A:1010933404324.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectFromModel

TREES = 200


def build(count: int, seed: int) -> SelectFromModel:
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed)
    return SelectFromModel(forest, threshold=-np.inf, max_features=count)
