"""Nearest neighbours: distances by one matrix product, TopK, and the mean of the neighbours' one-hot labels.

The distance is ``|y|^2 - 2xy``: ``|x|^2`` is the same for every neighbour and is left out. The data are centred first,
so that float32 loses few digits in this difference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from ._graph import Graph

ESTIMATOR = KNeighborsClassifier


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph, knn = Graph(scope, operator, container), operator.raw_operator
    if knn.weights != "uniform" or knn.effective_metric_ != "euclidean":
        raise ValueError(f"{knn.weights} weights and {knn.effective_metric_} metric; wanted uniform and euclidean")
    fitted = np.asarray(knn._fit_X, dtype=np.float64)
    middle = fitted.mean(axis=0)
    points = fitted - middle
    one_hot = np.eye(len(knn.classes_))[knn._y]
    centred = graph.add("Sub", graph.input, middle)
    product = graph.add("MatMul", centred, -2 * points.T)
    distance = graph.add("Add", product, (points**2).sum(axis=1))
    neighbours = np.array([knn.n_neighbors])
    _, nearest = graph.add_several("TopK", distance, neighbours, outputs=2, axis=1, largest=0, sorted=1)
    votes = graph.add("Gather", one_hot, nearest, axis=0)
    graph.answer(graph.add("ReduceMean", votes, np.array([1]), keepdims=0))
