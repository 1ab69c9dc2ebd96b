"""The three heads that a quantized backbone can get, each judged on images that nothing of it has seen.

- ``fp32``: FP32's own, as it is.
- ``realigned``: FP32's own, with each channel of the quantized features moved and stretched onto FP32's first. That is
  one straight line a channel, which the scaler takes in: it costs nothing in the graph.
- ``refitted``: scaler, selector and classifier fitted anew on the quantized features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edge_all.export import evaluate, gate
from edge_all.export.dataset import Dataset
from edge_all.export.head import Head

KINDS = ("fp32", "realigned", "refitted")

_PRIOR = 4.0  # images' worth of belief that a channel needs no stretching


@dataclass(frozen=True)
class Exact:
    """What FP32 gave, to compare with.

    Attributes:
        data: The training images.
        features: ``float32 [N, C]``.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        heads: One head a fold, by protocol.
        answers: Class probabilities ``[N, K]``, each image's by the head that has not seen it, by protocol.
        scores: Of `evaluate.score`, by protocol.
    """

    data: Dataset
    features: np.ndarray
    splits: Mapping[str, np.ndarray]
    heads: Mapping[str, list[Head]]
    answers: Mapping[str, np.ndarray]
    scores: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """The graph that ships, and the other one, which answers for the images that the first was calibrated on.

    Attributes:
        graphs: Both.
        judged: ``bool [N]`` each: the images that it answers for.
        rows: ``float32 [N, C]``: every image's features by the graph that answers for it.
    """

    graphs: tuple[onnx.ModelProto, onnx.ModelProto]
    judged: tuple[np.ndarray, np.ndarray]
    rows: np.ndarray


@dataclass(frozen=True)
class Trained:
    """A kind of head on a quantized backbone.

    Attributes:
        kind: One of `KINDS`.
        scores: By protocol, with ``agreement_fp32``; no image counts that its graph was calibrated on, and no head that
            was fitted or realigned on it.
        verdict: The gate's.
        ship: Makes the head that ships, from FP32's.
    """

    kind: str
    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]
    ship: Callable[[Head], Head]


def plain(pair: Pair, exact: Exact) -> Trained:
    """FP32's heads on the quantized features."""
    answers = {name: evaluate.answer(exact.heads[name], pair.rows, split) for name, split in exact.splits.items()}
    return _judged("fp32", answers, exact, lambda head: head)


def realigned(pair: Pair, exact: Exact) -> Trained:
    """FP32's heads, the quantized features laid onto FP32's by the training folds."""
    answers = {}
    for name, split in exact.splits.items():
        given = np.empty((len(split), len(exact.data.classes)))
        for own in pair.judged:
            for fold, head in enumerate(exact.heads[name]):
                tested, others = own & (split == fold), own & (split != fold)
                if tested.any():
                    fitted = realign(head, pair.rows[others], exact.features[others])
                    given[tested] = fitted.predict_proba(pair.rows[tested])
        answers[name] = given
    shipped = pair.judged[0]
    return _judged("realigned", answers, exact, lambda head: realign(head, pair.rows[shipped], exact.features[shipped]))


def refitted(pair: Pair, whole: tuple[np.ndarray, np.ndarray], exact: Exact, fit: evaluate.Fit) -> Trained:
    """Heads fitted on the quantized features, each on those of the graph whose answers it turns into labels.

    Args:
        pair: The graphs.
        whole: ``float32 [N, C]``: every image's features by the one graph and by the other.
        exact: FP32's answers.
        fit: Fits a head.
    """
    answers = {}
    for name, split in exact.splits.items():
        given = np.empty((len(split), len(exact.data.classes)))
        for rows, own in zip(whole, pair.judged, strict=True):
            heads = evaluate.fold_heads(rows, exact.data.labels, split, fit)
            given[own] = evaluate.answer(heads, rows[own], split[own])
        answers[name] = given
    return _judged("refitted", answers, exact, lambda head: fit(whole[0], exact.data.labels))


def realign(head: Head, quantized: np.ndarray, features: np.ndarray) -> Head:
    """A head that takes quantized features, by least squares onto FP32's, ``float32 [M, C]`` each."""
    if not len(quantized):
        return head
    means = quantized.mean(0), features.mean(0)
    spread = ((quantized - means[0]) ** 2).sum(0)
    common = ((quantized - means[0]) * (features - means[1])).sum(0)
    prior = _PRIOR * np.maximum(spread / len(quantized), 1e-12)
    slope = np.maximum((common + prior) / (spread + prior), 0.05)
    return head.on_line(slope, means[1] - slope * means[0])


def _judged(kind: str, answers: Mapping[str, np.ndarray], exact: Exact, ship: Callable[[Head], Head]) -> Trained:
    scores = {}
    for name, given in answers.items():
        score = evaluate.score(exact.data.labels, given, exact.data.classes)
        scores[name] = score | {"agreement_fp32": evaluate.agreement(given, exact.answers[name])}
    return Trained(kind, scores, gate.judge(exact.scores["block"], scores["block"], exact.data.counts), ship)
