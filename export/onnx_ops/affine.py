"""Scaling, and scaling with PCA, as one affine map."""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ._graph import Graph


class Affine(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """``(x - shift) * factor`` where factor is a row, ``(x - shift) @ factor`` where it is a matrix.

    The shift is subtracted first: with a bias added at the end, float32 would lose digits of features far from zero.
    """

    def __init__(self, shift: np.ndarray, factor: np.ndarray) -> None:
        self.shift, self.factor = shift, factor

    @classmethod
    def scaling(cls, mean: np.ndarray, scale: np.ndarray) -> Affine:
        """What a StandardScaler with these parameters ``[F]`` does."""
        return cls(mean, 1 / scale)

    @classmethod
    def projection(cls, scaler: StandardScaler, pca: PCA) -> Affine:
        """Scaling, PCA's centring and PCA's projection in one."""
        factor = pca.components_.T.astype(np.float64)
        return cls(scaler.mean_ + pca.mean_ * scaler.scale_, factor / scaler.scale_[:, np.newaxis])

    def transform(self, X: np.ndarray) -> np.ndarray:
        centred = X - self.shift
        return np.asarray(centred * self.factor if self.factor.ndim == 1 else centred @ self.factor)


ESTIMATOR = Affine


def shapes(operator: Any) -> None:
    operator.outputs[0].type = FloatTensorType([None, operator.raw_operator.factor.shape[-1]])


def convert(scope: Any, operator: Any, container: Any) -> None:
    graph, affine = Graph(scope, operator, container), operator.raw_operator
    centred = graph.add("Sub", graph.input, affine.shift)
    graph.add("Mul" if affine.factor.ndim == 1 else "MatMul", centred, affine.factor, to=graph.outputs[0])
