"""Answers that know their limits: how unlike the training images a picture is, and when a label is too close to call.

A classifier names one of its classes for a cat as well. One Gaussian over the features that the classifier reads,
fitted on the training images and their changed copies, says how far off a picture lies: the squared Mahalanobis
distance (Lee et al. 2018, arXiv 1807.03888), in the fused graph as one matrix product. Its limit is set on fields that
the Gaussian has not seen, so that a stated share of real ones passes. What is familiar but undecided is referred, by
the largest probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.covariance import LedoitWolf

from ..onnx_ops.affine import Affine
from .evaluate import Rows
from .fit import Head

ACCEPTED = 99.0
"""Percent of held-out real fields, under ``block``, that the limit lets pass."""

COVERAGE = 95.0
"""Percent of images that are answered and not referred, on the same terms."""

COVERAGES = (100, 99, 98, 95, 90, 85, 80, 70)


@dataclass(frozen=True)
class Gaussian:
    """Where the training images lie, in the coordinates that a head's classifier reads.

    Attributes:
        mean: ``float64 [F]``.
        whitening: ``float64 [F, F]``: makes the distance a Euclidean one.
    """

    mean: np.ndarray
    whitening: np.ndarray

    def distance(self, chosen: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance ``[N]`` of what the classifier reads, ``[N, F]``."""
        return np.asarray((((chosen - self.mean) @ self.whitening) ** 2).sum(1))


def fit(head: Head, rows: Rows, images: np.ndarray | None = None) -> Gaussian:
    """Fit a Gaussian, its covariance shrunk by Ledoit and Wolf (2004, doi 10.1016/S0047-259X(03)00096-4).

    Args:
        head: Scales and selects.
        rows: Features of N images.
        images: ``bool [N]``: those to fit on, with all their copies; None is all.
    """
    found = LedoitWolf().fit(chosen(head, rows.training(images)[0]))
    return Gaussian(found.location_, np.linalg.cholesky(found.precision_))


def chosen(head: Head, features: np.ndarray) -> np.ndarray:
    """What the classifier reads: features ``float32 [N, C]``, scaled and selected, ``float64 [N, F]``."""
    return np.asarray(head.pipeline[:-1].transform(features), np.float64)


def fit_folds(heads: Sequence[Head], rows: Rows, folds: np.ndarray) -> list[Gaussian]:
    """One Gaussian a fold, on the images of all others and in the coordinates of its head; folds as ``int64 [N]``."""
    return [fit(head, rows, folds != k) for k, head in enumerate(heads)]


def held_out(
    gaussians: Sequence[Gaussian], heads: Sequence[Head], features: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """Distance ``[N]`` of every image's features ``float32 [N, C]`` by the Gaussian and the head of its fold."""
    found = np.zeros(len(folds))
    for k, (gaussian, head) in enumerate(zip(gaussians, heads, strict=True)):
        tested = folds == k
        if tested.any():
            found[tested] = gaussian.distance(chosen(head, features[tested]))
    return found


def limit(distances: np.ndarray) -> float:
    """The distance that `ACCEPTED` percent of held-out fields stay under."""
    return float(np.quantile(distances, ACCEPTED / 100))


def accepted(distances: np.ndarray, most: float) -> float:
    """Percent of these distances within a limit."""
    return round(100 * float((distances <= most).mean()), 2)


def with_output(model: onnx.ModelProto, head: Head, gaussian: Gaussian, most: float) -> onnx.ModelProto:
    """Give a head's graph a third output.

    Args:
        model: "features" to "probabilities" and "label", of `edge_all.export.head.fit.to_onnx`.
        head: The head that it was made from.
        gaussian: Fitted in its coordinates.
        most: The limit.

    Returns:
        The same with ``float32 [N]`` "unfamiliarity": the squared distance in parts of the limit, above 1 too far off.
    """
    affine = _to_gaussian(head, gaussian, most, model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    constants = {"shift": affine.shift.astype(np.float32), "factor": affine.factor.astype(np.float32)}
    constants["axes"] = np.array([1])
    at = {name: f"unfamiliarity/{name}" for name in (*constants, "centred", "whitened")}
    steps = [
        ("Sub", ["features", at["shift"]], at["centred"], {}),
        ("MatMul", [at["centred"], at["factor"]], at["whitened"], {}),
        ("ReduceSumSquare", [at["whitened"], at["axes"]], "unfamiliarity", {"keepdims": 0}),
    ]
    for kind, inputs, output, attributes in steps:
        made.graph.node.append(helper.make_node(kind, inputs, [output], f"head/unfamiliarity_{kind}", **attributes))
    made.graph.initializer.extend(numpy_helper.from_array(value, at[name]) for name, value in constants.items())
    made.graph.output.append(helper.make_tensor_value_info("unfamiliarity", TensorProto.FLOAT, ["N"]))
    onnx.checker.check_model(made, full_check=True)
    return made


def _to_gaussian(head: Head, gaussian: Gaussian, most: float, channels: int) -> Affine:
    """From the graph's features to whitened coordinates, in which a length of 1 is the limit."""
    scaler, whitening = head.pipeline["scaler"], gaussian.whitening / np.sqrt(most)
    kept = head.kept
    if kept is None:
        projection = Affine.projection(scaler, head.pipeline["selector"])
        # (x - shift) @ factor - mean = (x - shift - back) @ factor, for factor has full column rank
        back = np.linalg.lstsq(projection.factor.T, gaussian.mean, rcond=None)[0]
        return Affine(projection.shift + back, projection.factor @ whitening)
    mean, scale = scaler.mean_[kept], scaler.scale_[kept]
    shift, factor = mean + scale * gaussian.mean, whitening / scale[:, np.newaxis]
    if channels == len(kept):
        return Affine(shift, factor)
    whole = Affine(np.zeros(channels), np.zeros((channels, factor.shape[1])))
    whole.shift[kept], whole.factor[kept] = shift, factor
    return whole


def referral(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """When to refer instead of answering, from held-out answers.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.

    Returns:
        ``threshold`` of the largest probability, ``coverage`` and ``error`` in percent where those under it are not
        answered, and the risk-coverage ``curve`` (Geifman and El-Yaniv 2017, arXiv 1705.08500).
    """
    sure = probabilities.max(1)
    wrong = probabilities.argmax(1) != labels

    def at(coverage: float) -> tuple[float, float, float]:
        threshold = float(np.quantile(sure, 1 - coverage / 100)) if coverage < 100 else 0.0
        answered = sure >= threshold
        return threshold, round(100 * float(answered.mean()), 2), round(100 * float(wrong[answered].mean()), 3)

    threshold, coverage, error = at(COVERAGE)
    curve = [dict(zip(("threshold", "coverage", "error"), at(share), strict=True)) for share in COVERAGES]
    return {"threshold": threshold, "coverage": coverage, "error": error, "protocol": "block", "curve": curve}


def sentence(record: Mapping[str, Any]) -> str:
    """What a bundle's record says of it, for the user."""
    referred = record["referral"]
    return (
        f"of held-out fields {record['familiarity']['accepted']['fp32']:.1f} % pass as familiar; with "
        f"{referred['coverage']:.0f} % answered, {referred['error']:.2f} % of the answers are wrong (block)"
    )
