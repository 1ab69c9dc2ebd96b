"""Random forest: all trees are descended together, one level at a time, by gathers.

The nodes of all trees lie in one table. The children of a leaf are the leaf itself, so every descent takes as many
steps as the deepest tree has levels, and no loop is needed. Thresholds are rounded down to float32, so that
``x <= threshold`` stays exact for float32 x.

After Nakandala et al. 2020, A Tensor Compiler for Unified Machine Learning Prediction Serving (Hummingbird, its
TreeTraversal strategy), arXiv 2010.04804.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from ._graph import Graph

ESTIMATOR = RandomForestClassifier


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph, forest = Graph(scope, operator, container), operator.raw_operator
    trees = [tree.tree_ for tree in forest.estimators_]
    roots = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
    leaf = np.concatenate([tree.children_left < 0 for tree in trees])
    itself = np.arange(len(leaf))
    left, right = (
        np.where(leaf, itself, np.concatenate([getattr(t, side) + root for t, root in zip(trees, roots, strict=True)]))
        for side in ("children_left", "children_right")
    )
    feature = np.where(leaf, 0, np.concatenate([tree.feature for tree in trees]))
    threshold = _round_down(np.concatenate([tree.threshold for tree in trees]))
    value = np.concatenate([tree.value[:, 0, :] for tree in trees])
    value = value / value.sum(axis=1, keepdims=True)

    tables = {name: graph.constant(table) for name, table in
              (("left", left), ("right", right), ("feature", feature), ("threshold", threshold))}  # fmt: skip
    rows = graph.add("Gather", graph.add("Shape", graph.input), np.array([0]))
    node = graph.add("Expand", roots[np.newaxis], graph.add("Concat", rows, np.array([1]), axis=0))
    for _ in range(max(tree.max_depth for tree in trees)):
        here = {name: graph.add("Gather", table, node, axis=0) for name, table in tables.items()}
        x = graph.add("GatherElements", graph.input, here["feature"], axis=1)
        goes_left = graph.add("LessOrEqual", x, here["threshold"])
        node = graph.add("Where", goes_left, here["left"], here["right"])
    leaves = graph.add("Gather", value, node, axis=0)
    graph.answer(graph.add("ReduceMean", leaves, np.array([1]), keepdims=0))


def _round_down(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64."""
    nearest = values.astype(np.float32)
    return np.where(nearest > values, np.nextafter(nearest, np.float32(-np.inf)), nearest).astype(np.float32)
