"""Gaussian naive Bayes: squared distances to each class's mean, weighted, and a softmax.

Element by element, ``(x - mean)^2``: expanding the square into matrix products would cancel most of float32's digits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.naive_bayes import GaussianNB

from ._graph import Graph

ESTIMATOR = GaussianNB


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph, bayes = Graph(scope, operator, container), operator.raw_operator
    deviation = 1 / np.sqrt(2 * bayes.var_)
    constant = np.log(bayes.class_prior_) - 0.5 * np.log(2 * np.pi * bayes.var_).sum(axis=1)
    distances = []
    for mean, narrow in zip(bayes.theta_, deviation, strict=True):
        # A class at a time: OpenVINO 2026.4 answers nonsense to the [N, 1, F] - [1, K, F] that would do all at once.
        scaled = graph.add("Mul", graph.add("Sub", graph.input, mean), narrow)
        distances.append(graph.add("ReduceSumSquare", scaled, np.array([1]), keepdims=1))
    likelihood = graph.add("Sub", constant[np.newaxis], graph.add("Concat", *distances, axis=1))
    graph.answer(graph.add("Softmax", likelihood, axis=1))
