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

from ..dataset import Dataset
from ..head import evaluate
from ..head.evaluate import Rows
from ..head.fit import Head
from . import gate

KINDS = ("fp32", "realigned", "refitted")

_PRIOR = 4.0  # images' worth of belief that a channel needs no stretching


FoldHeads = Mapping[str, list[Head]]
"""A head for each fold, by protocol."""


@dataclass(frozen=True)
class Exact:
    """What FP32 gave, to compare with.

    Attributes:
        data: The training images.
        rows: Their features.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        heads: One head a fold, by protocol.
        answers: Class probabilities ``[N, K]``, each image's by the head that has not seen it, by protocol.
        scores: Of `evaluate.score`, by protocol.
    """

    data: Dataset
    rows: Rows
    splits: Mapping[str, np.ndarray]
    heads: FoldHeads
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
        heads: For the images of either graph of the pair, heads that were neither fitted nor realigned on them.
        scores: By protocol, with ``agreement_fp32``; no image counts that its graph was calibrated on.
        verdict: The gate's.
        ship: Makes the head that ships, from FP32's.
    """

    kind: str
    heads: tuple[FoldHeads, FoldHeads]
    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]
    ship: Callable[[Head], Head]


def plain(pair: Pair, exact: Exact) -> Trained:
    """FP32's heads on the quantized features."""
    return _judged("fp32", (exact.heads, exact.heads), pair, exact, lambda head: head)


def realigned(pair: Pair, exact: Exact) -> Trained:
    """FP32's heads, the quantized features laid onto FP32's by the training folds."""
    quantized, wanted = pair.rows, exact.rows.plain

    def by_fold(own: np.ndarray) -> FoldHeads:
        return {
            name: [
                realign(head, quantized[own & (split != fold)], wanted[own & (split != fold)])
                for fold, head in enumerate(exact.heads[name])
            ]
            for name, split in exact.splits.items()
        }

    shipped = pair.judged[0]
    made = by_fold(shipped), by_fold(pair.judged[1])
    return _judged("realigned", made, pair, exact, lambda head: realign(head, quantized[shipped], wanted[shipped]))


def refitted(pair: Pair, whole: tuple[Rows, Rows], exact: Exact, fit: evaluate.Fit) -> Trained:
    """Heads fitted on the quantized features, each on those of the graph whose answers it turns into labels.

    Args:
        pair: The graphs.
        whole: Every image's features by the one graph and by the other, copies and all.
        exact: FP32's answers.
        fit: Fits a head.
    """

    def by_fold(rows: Rows) -> FoldHeads:
        labels = exact.data.labels
        return {name: evaluate.fold_heads(rows, labels, split, fit) for name, split in exact.splits.items()}

    made = by_fold(whole[0]), by_fold(whole[1])
    return _judged("refitted", made, pair, exact, lambda head: evaluate.fit(whole[0], exact.data.labels, fit))


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


def _judged(
    kind: str, heads: tuple[FoldHeads, FoldHeads], pair: Pair, exact: Exact, ship: Callable[[Head], Head]
) -> Trained:
    scores = {}
    for name, split in exact.splits.items():
        given = np.empty_like(exact.answers[name])
        for by_fold, own in zip(heads, pair.judged, strict=True):
            given[own] = evaluate.answer(by_fold[name], pair.rows[own], split[own])
        score = evaluate.score(exact.data.labels, given, exact.data.classes)
        scores[name] = score | {"agreement_fp32": evaluate.agreement(given, exact.answers[name])}
    verdict = gate.judge(exact.scores["block"], scores["block"], exact.data.counts)
    return Trained(kind, heads, scores, verdict, ship)
