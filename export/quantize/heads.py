"""The three kinds of head for a quantized backbone, each evaluated on images that neither graph nor head was fitted on.

- ``fp32``: FP32's head, unchanged.
- ``realigned``: FP32's head, after each channel of the quantized features is aligned with FP32's by a straight line.
  The scaler takes this line in, so it costs nothing in the graph.
- ``refitted``: scaler, selector and classifier fitted anew on the quantized features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all.record import GateVerdict, Score

from ..features import Rows
from ..head import evaluate
from ..head.fit import Head
from ..head.reference import FoldHeads, Reference
from . import gate

KINDS = ("fp32", "realigned", "refitted")

_PRIOR = 4.0  # images' worth of belief that a channel needs no stretching


@dataclass(frozen=True)
class QuantizedPair:
    """Two quantizations of one backbone, calibrated on different images.

    Attributes:
        graphs: The graph that ships, and the one that answers for the images that the first was calibrated on.
        evaluated: ``bool [N]`` for each: the images that it answers for.
        rows: ``float32 [N, C]``: features of every image by the graph that answers for it.
    """

    graphs: tuple[onnx.ModelProto, onnx.ModelProto]
    evaluated: tuple[np.ndarray, np.ndarray]
    rows: np.ndarray


@dataclass(frozen=True)
class EvaluatedHead:
    """A kind of head on a quantized backbone.

    Attributes:
        kind: One of `KINDS`.
        heads: For the images of either graph of the pair, heads that were neither fitted nor realigned on them.
        scores: By protocol, with ``agreement_fp32``; no image counts that its graph was calibrated on.
        verdict: The gate's.
        ship: Makes the head that ships from FP32's.
    """

    kind: str
    heads: tuple[FoldHeads, FoldHeads]
    scores: Mapping[str, Score]
    verdict: GateVerdict
    ship: Callable[[Head], Head]


def plain(pair: QuantizedPair, reference: Reference) -> EvaluatedHead:
    """FP32's heads on the quantized features."""
    return _evaluated("fp32", (reference.heads, reference.heads), pair, reference, lambda head: head)


def realigned(pair: QuantizedPair, reference: Reference) -> EvaluatedHead:
    """FP32's heads, the quantized features aligned with FP32's on the training folds."""
    quantized, exact = pair.rows, reference.rows.plain

    def by_fold(images: np.ndarray) -> FoldHeads:
        return {
            protocol: [
                realign(head, quantized[images & (folds != fold)], exact[images & (folds != fold)])
                for fold, head in enumerate(reference.heads[protocol])
            ]
            for protocol, folds in reference.splits.items()
        }

    shipped = pair.evaluated[0]
    heads = by_fold(shipped), by_fold(pair.evaluated[1])
    return _evaluated(
        "realigned", heads, pair, reference, lambda head: realign(head, quantized[shipped], exact[shipped])
    )


def refitted(pair: QuantizedPair, rows: tuple[Rows, Rows], reference: Reference) -> EvaluatedHead:
    """Heads fitted on the quantized features, each on those of the graph whose answers it turns into labels.

    Args:
        pair: The graphs.
        rows: Features of every image by the one graph and by the other, with copies.
        reference: The FP32 pipeline.
    """
    labels, spec = reference.data.labels, reference.spec

    def by_fold(features: Rows) -> FoldHeads:
        return {
            protocol: evaluate.fold_heads(features, labels, folds, spec) for protocol, folds in reference.splits.items()
        }

    heads = by_fold(rows[0]), by_fold(rows[1])
    return _evaluated("refitted", heads, pair, reference, lambda head: evaluate.fit(rows[0], labels, spec))


def realign(head: Head, quantized: np.ndarray, exact: np.ndarray) -> Head:
    """A head that reads quantized features, aligned with FP32's by least squares.

    Args:
        head: Fitted on FP32's features.
        quantized: ``float32 [M, C]``: features of M images by the quantized graph.
        exact: Those of the same images by FP32's.
    """
    if not len(quantized):
        return head
    means = quantized.mean(0), exact.mean(0)
    spread = ((quantized - means[0]) ** 2).sum(0)
    common = ((quantized - means[0]) * (exact - means[1])).sum(0)
    prior = _PRIOR * np.maximum(spread / len(quantized), 1e-12)
    slope = np.maximum((common + prior) / (spread + prior), 0.05)
    return head.for_aligned(slope, means[1] - slope * means[0])


def score_against(reference: Reference, answers: Mapping[str, np.ndarray]) -> dict[str, Score]:
    """Accuracies by protocol, with the share of FP32's labels.

    Args:
        reference: The FP32 pipeline.
        answers: Class probabilities ``[N, K]`` of all its images, by protocol.
    """
    return {
        protocol: {
            **reference.scorer.score(probabilities),
            "agreement_fp32": evaluate.agreement(probabilities, reference.answers[protocol]),
        }
        for protocol, probabilities in answers.items()
    }


def _evaluated(
    kind: str,
    heads: tuple[FoldHeads, FoldHeads],
    pair: QuantizedPair,
    reference: Reference,
    ship: Callable[[Head], Head],
) -> EvaluatedHead:
    answers = {}
    for protocol, folds in reference.splits.items():
        probabilities = np.empty_like(reference.answers[protocol])
        for by_fold, images in zip(heads, pair.evaluated, strict=True):
            probabilities[images] = evaluate.answer(by_fold[protocol], pair.rows[images], folds[images])
        answers[protocol] = probabilities
    scores = score_against(reference, answers)
    protocol = reference.headline
    verdict = gate.judge(reference.scores[protocol], scores[protocol], reference.data.counts, protocol)
    return EvaluatedHead(kind, heads, scores, verdict, ship)
