"""Gaussian naive Bayes: squared distances to each class's mean, weighted, and a softmax.

``(x - mean)^2`` is computed element by element: expanded into matrix products it would lose most of float32's digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import GaussianNB

from ._graph import Graph

ESTIMATOR = GaussianNB


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph, bayes = Graph(scope, operator, container), operator.raw_operator
    precision = 1 / np.sqrt(2 * bayes.var_)
    constant = np.log(bayes.class_prior_) - 0.5 * np.log(2 * np.pi * bayes.var_).sum(axis=1)
    distances = []
    for mean, factor in zip(bayes.theta_, precision, strict=True):
        # One class at a time: OpenVINO 2026.4 computes the [N, 1, F] - [1, K, F] for all classes at once wrongly.
        scaled = graph.add("Mul", graph.add("Sub", graph.input, mean), factor)
        distances.append(graph.add("ReduceSumSquare", scaled, np.array([1]), keepdims=1))
    likelihood = graph.add("Sub", constant[np.newaxis], graph.add("Concat", *distances, axis=1))
    graph.answer(graph.add("Softmax", likelihood, axis=1))
