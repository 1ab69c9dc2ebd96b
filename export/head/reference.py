"""The FP32 pipeline that everything else is compared with: its graph, its features, its heads and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all import protocols
from edge_all.progress import Progress, ignore
from edge_all.record import Score

from ..backbones import Guard
from ..dataset import Dataset
from ..features import Rows
from ..graph import edit
from . import evaluate
from .fit import Head, HeadSpec
from .scorer import Scorer

FoldHeads = Mapping[str, list[Head]]
"""By split protocol, a head for each fold."""


@dataclass(frozen=True)
class Reference:
    """What FP32 gives under every split protocol.

    Attributes:
        graph: The backbone, ``uint8 [N, H, W, 3]`` "image" to ``float32 [N, C]`` "features".
        scorer: Scores answers to the training images.
        rows: Their features.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        spec: What the heads are made of.
        heads: A head for each fold, by protocol.
        answers: Class probabilities ``float64 [N, K]`` by protocol, each image's by the head that has not seen it.
        scores: Accuracies of these answers, by protocol.
        guard: The early place that is judged beside what the classifier reads; None is none.
    """

    graph: onnx.ModelProto
    scorer: Scorer
    rows: Rows
    splits: Mapping[str, np.ndarray]
    spec: HeadSpec
    heads: FoldHeads
    answers: Mapping[str, np.ndarray]
    scores: Mapping[str, Score]
    guard: Guard | None = None

    @property
    def data(self) -> Dataset:
        """The training images."""
        return self.scorer.data

    @property
    def headline(self) -> str:
        """The protocol whose figures count (`edge_all.protocols.headline`)."""
        return protocols.headline(self.splits)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the graph's input, in pixels."""
        return edit.size(self.graph)


def measure(
    graph: onnx.ModelProto,
    scorer: Scorer,
    rows: Rows,
    splits: Mapping[str, np.ndarray],
    spec: HeadSpec,
    progress: Progress = ignore,
) -> Reference:
    """Cross-validate the FP32 pipeline.

    Args:
        graph: The backbone.
        scorer: Scores answers to the training images.
        rows: Their features.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        spec: What the heads are made of.
        progress: Counts protocols.
    """
    heads = {}
    for done, (protocol, folds) in enumerate(splits.items(), 1):
        heads[protocol] = evaluate.fold_heads(rows, scorer.data.labels, folds, spec)
        progress(done, len(splits))
    answers = {protocol: evaluate.answer(heads[protocol], rows.plain, folds) for protocol, folds in splits.items()}
    scores = {protocol: scorer.score(given) for protocol, given in answers.items()}
    return Reference(graph, scorer, rows, splits, spec, heads, answers, scores)
