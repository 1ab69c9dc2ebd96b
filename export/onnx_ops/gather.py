"""Selection: the selected features, in one Gather."""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

from ._graph import Graph


class Gather(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Takes some columns, as a fitted selector with a mask does."""

    def __init__(self, kept: np.ndarray) -> None:
        self.kept = kept

    def transform(self, X: np.ndarray) -> np.ndarray:
        return X[:, self.kept]


ESTIMATOR = Gather


def shapes(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([None, len(operator.raw_operator.kept)])


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph = Graph(scope, operator, container)
    graph.add("Gather", graph.input, operator.raw_operator.kept, to=graph.outputs[0], axis=1)
