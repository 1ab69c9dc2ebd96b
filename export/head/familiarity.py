"""When a pipeline must not answer: pictures unlike the training images, and labels too close to call.

A classifier names one of its classes for any picture, even of a cat. So a Gaussian is fitted over the features that the
classifier reads, on the training images and their changed copies; all copies of an image weigh as much as the image.
The squared Mahalanobis distance to it (Lee et al. 2018, arXiv 1807.03888) says how unlike the training images a picture
is; in the fused graph it is one matrix product. Where the classifier reads late features, another Gaussian judges those
of an early place beside them (`edge_all.export.backbones.guard`), and the larger distance counts. The limits are chosen
on images that the Gaussians were not fitted on: `ACCEPTED` percent of them are within all. A familiar picture whose
largest probability is too small is referred to a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from scipy.stats import rankdata
from sklearn.covariance import LedoitWolf
from sklearn.preprocessing import StandardScaler

from edge_all.record import CoveragePoint, Familiarity, Referral

from ..backbones import Guard
from ..features import Rows
from ..graph import edit
from ..graph.names import FEATURES, HEAD, SELECTED, UNFAMILIARITY
from .evaluate import percent
from .fit import Head

ACCEPTED = 99.0
"""Percent of held-out images, under ``block``, that the limit lets pass."""

COVERAGE = 95.0
"""Percent of held-out images that are answered and not referred."""

COVERAGES = (100, 99, 98, 95, 90, 85, 80, 70)
"""Points of the risk-coverage curve, in percent of images answered."""


@dataclass(frozen=True)
class Early:
    """Scales the features of an early place.

    An INT8 graph's early features are near FP32's, and are not aligned with them: errors add up layer by layer.

    Attributes:
        columns: Their numbers among all features, ``int64 [F]``.
        mean: ``float64 [F]``.
        scale: ``float64 [F]``.
    """

    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, guard: Guard, rows: Rows, images: np.ndarray | None = None) -> Early:
        """Fit on images, as `fit` does."""
        columns = np.array(guard.columns)
        scaler = StandardScaler().fit(rows.training(images)[0][:, columns].astype(np.float64))
        return cls(columns, scaler.mean_, scaler.scale_)

    def placed(
        self, centre: np.ndarray, factor: np.ndarray, places: np.ndarray, channels: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A map of what this gives, ``(inputs - centre) @ factor``, as one of all features of a graph.

        Args:
            centre: ``[F]``.
            factor: ``[F, M]``.
            places: Where its features are in the graph, ``int64 [F]``; nothing is read of the others.
            channels: How many features the graph has.

        Returns:
            ``[channels]`` and ``[channels, M]``.
        """
        shift, matrix = np.zeros(channels), np.zeros((channels, factor.shape[1]))
        shift[places], matrix[places] = self.mean + self.scale * centre, factor / self.scale[:, np.newaxis]
        return shift, matrix


Reader = Head | Early
"""What gives a Gaussian its inputs: the head's scaler and selector, or an early place."""


@dataclass(frozen=True)
class Gaussian:
    """Distribution of the training images in what a reader gives.

    Attributes:
        mean: ``float64 [F]``.
        whitening: ``float64 [F, F]``: makes the distance a Euclidean one.
    """

    mean: np.ndarray
    whitening: np.ndarray

    def distance(self, inputs: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance ``[N]`` of what the classifier reads, ``[N, F]``."""
        return np.asarray((((inputs - self.mean) @ self.whitening) ** 2).sum(1))


@dataclass(frozen=True)
class Judge:
    """A Gaussian, its limit, and what gives it its inputs.

    Attributes:
        gaussian: Fitted on what the classifier reads, or on what `early` gives.
        limit: The squared distance beyond which a picture is unfamiliar.
        early: Scales the features of an early place; None where the head gives the inputs.
        places: Where these are among the features of the graph, ``int64 [F]``; None: at their own numbers.
    """

    gaussian: Gaussian
    limit: float
    early: Early | None = None
    places: np.ndarray | None = None


def fit(reader: Reader, rows: Rows, images: np.ndarray | None = None) -> Gaussian:
    """Fit a Gaussian, its covariance shrunk by Ledoit and Wolf (2004, doi 10.1016/S0047-259X(03)00096-4).

    Args:
        reader: What gives its inputs.
        rows: Features of N images.
        images: ``bool [N]``: those to fit on, with all their copies; None is all.
    """
    features, shown = rows.training(images)
    return fit_inputs(inputs_of(reader, features), row_weights(shown))


def fit_inputs(inputs: np.ndarray, weights: np.ndarray) -> Gaussian:
    """Likewise, to what the classifier reads, ``[M, F]``, of rows that weigh ``float64 [M]``."""
    mean = np.average(inputs.astype(np.float64), axis=0, weights=weights)
    scaled = (inputs - mean) * np.sqrt(weights / weights.mean())[:, np.newaxis]
    estimate = LedoitWolf(assume_centered=True).fit(scaled)
    return Gaussian(mean, np.linalg.cholesky(estimate.precision_))


def row_weights(shown: np.ndarray) -> np.ndarray:
    """Weight of each row, ``float64 [M]``: an image's first row counts once, and all others of it together once.

    Args:
        shown: ``int64 [M]``: which image each row shows.
    """
    _, first, image, counts = np.unique(shown, return_index=True, return_inverse=True, return_counts=True)
    weights = 1 / np.maximum(counts - 1, 1)[image]
    weights[first] = 1
    return np.asarray(weights)


def classifier_input(head: Head, features: np.ndarray) -> np.ndarray:
    """What the classifier reads: features ``float32 [N, C]``, scaled and selected, ``float64 [N, F]``."""
    return np.asarray(head.pipeline[:-1].transform(features[:, : head.channels]), np.float64)


def inputs_of(reader: Reader, features: np.ndarray) -> np.ndarray:
    """What a reader gives, ``float64 [N, F]``, of features ``float32 [N, C]``."""
    if isinstance(reader, Early):
        return np.asarray((features[:, reader.columns].astype(np.float64) - reader.mean) / reader.scale)
    return classifier_input(reader, features)


def fit_folds(readers: Sequence[Reader], rows: Rows, folds: np.ndarray) -> list[Gaussian]:
    """A Gaussian for each fold, ``int64 [N]``, on the images of the other folds, with the fold's reader."""
    return [fit(reader, rows, folds != k) for k, reader in enumerate(readers)]


def held_out(
    gaussians: Sequence[Gaussian], readers: Sequence[Reader], features: np.ndarray, folds: np.ndarray
) -> np.ndarray:
    """Distance ``[N]`` of every image's features ``float32 [N, C]`` by the Gaussian and the reader of its fold."""
    distances = np.zeros(len(folds))
    for k, (gaussian, reader) in enumerate(zip(gaussians, readers, strict=True)):
        tested = folds == k
        if tested.any():
            distances[tested] = gaussian.distance(inputs_of(reader, features[tested]))
    return distances


def limit(distances: np.ndarray) -> float:
    """The distance that `ACCEPTED` percent of held-out images stay under."""
    return float(limits(distances[np.newaxis])[0])


_SHARES = (1.0, 4.0)
"""How many images the limit of an early place may keep out for each one that the limit of late features keeps out: what
is no field looks strange to early features first."""


def limits(distances: np.ndarray) -> np.ndarray:
    """Limits ``float64 [P]`` of distances ``[P, N]`` by P Gaussians: `ACCEPTED` percent of N images stay under all.

    The limits keep images out in the proportion of `_SHARES`.
    """
    shares = np.array(_SHARES[: len(distances)])
    count = distances.shape[1]
    beyond = (count - rankdata(distances, axis=1)) / max(1, count - 1) / shares[:, np.newaxis]
    refused = np.quantile(beyond.min(0), 1 - ACCEPTED / 100) * shares
    return np.array([np.quantile(own, max(0.0, 1 - part)) for own, part in zip(distances, refused, strict=True)])


def within(distances: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Which images are within all limits, ``bool [N]``, of distances ``[P, N]`` and limits ``[P]``."""
    return np.asarray((distances <= most[:, np.newaxis]).all(0))


def with_output(model: onnx.ModelProto, judges: Sequence[Judge]) -> onnx.ModelProto:
    """Give a head's graph a third output.

    Args:
        model: To "probabilities" and "label", with `SELECTED` in it: of `edge_all.export.head.fit.to_onnx`.
        judges: Fitted on what this head's classifier reads, or on early features.

    Returns:
        The same with ``float32 [N]`` "unfamiliarity": the largest of the squared distances, each divided by its limit,
        so that a picture is unfamiliar above 1.
    """
    nodes = edit.Nodes()
    names = [f"{UNFAMILIARITY}/{i}" if len(judges) > 1 else UNFAMILIARITY for i in range(len(judges))]
    for judge, name in zip(judges, names, strict=True):
        _judged(nodes, judge, name, edit.width(model.graph.input[0]))
    if len(judges) > 1:
        nodes.add("Max", names, UNFAMILIARITY, f"{HEAD}{UNFAMILIARITY}_Max")
    extended = edit.copy(model)
    nodes.append_to(extended.graph)
    extended.graph.output.append(helper.make_tensor_value_info(UNFAMILIARITY, TensorProto.FLOAT, ["N"]))
    onnx.checker.check_model(extended, full_check=True)
    return extended


def _judged(nodes: edit.Nodes, judge: Judge, result: str, channels: int) -> None:
    """Add a squared distance divided by its limit, from a graph of so many features."""
    centre, factor, source = judge.gaussian.mean, judge.gaussian.whitening / np.sqrt(judge.limit), SELECTED
    if judge.early:
        source, own = FEATURES, judge.early.columns if judge.places is None else judge.places
        centre, factor = judge.early.placed(centre, factor, own, channels)
    whitened = mapped(nodes, source, centre, factor, f"{result}/whitened")
    axes = nodes.constant(f"{result}/axes", np.array([1]))
    nodes.add("ReduceSumSquare", [whitened, axes], result, f"{HEAD}{result}_ReduceSumSquare", keepdims=0)


def mapped(nodes: edit.Nodes, source: str, centre: np.ndarray, factor: np.ndarray, result: str) -> str:
    """Add ``(source - centre) @ factor``, on the way to what the result's name begins with; that name."""
    output, _ = result.rsplit("/", 1)
    shift = nodes.constant(f"{output}/shift", centre.astype(np.float32))
    matrix = nodes.constant(f"{output}/factor", factor.astype(np.float32))
    centred = nodes.add("Sub", [source, shift], f"{output}/centred", f"{HEAD}{output}_Sub")
    return nodes.add("MatMul", [centred, matrix], result, f"{HEAD}{output}_MatMul")


def referral(labels: np.ndarray, probabilities: np.ndarray, protocol: str = "block") -> Referral:
    """When to refer instead of answering, from held-out answers.

    Args:
        labels: ``int64 [N]``.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        protocol: The split protocol of these heads.

    Returns:
        ``threshold`` of the largest probability, ``coverage`` and ``error`` in percent, when images below the
        threshold are referred, and the risk-coverage ``curve`` (Geifman and El-Yaniv 2017, arXiv 1705.08500).
    """
    sure = probabilities.max(1)

    def point(coverage: float) -> CoveragePoint:
        threshold = float(np.quantile(sure, 1 - coverage / 100)) if coverage < 100 else 0.0
        return answered(labels, probabilities, threshold)

    chosen = point(COVERAGE)
    return {
        "threshold": chosen["threshold"],
        "coverage": chosen["coverage"],
        "error": chosen["error"],
        "protocol": protocol,
        "curve": [point(coverage) for coverage in COVERAGES],
    }


def answered(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> CoveragePoint:
    """What is answered and how much of it is wrong, in percent, when images below a threshold are referred."""
    clear = probabilities.max(1) >= threshold
    wrong = (probabilities.argmax(1) != labels)[clear]
    return {
        "threshold": threshold,
        "coverage": percent(clear.mean(), 2),
        "error": percent(wrong.mean()) if len(wrong) else 0.0,
    }


def sentence(familiarity: Familiarity, referral: Referral) -> str:
    """The shares of held-out images that are familiar and that are answered, for the user."""
    return (
        f"{familiarity['accepted']['fp32']:.1f} % of held-out images are familiar; with {referral['coverage']:.0f} % "
        f"answered, {referral['error']:.2f} % of the answers are wrong ({referral['protocol']})"
    )
