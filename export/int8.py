"""Try a target's schemes in order and keep the first that passes the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from . import calibration, evaluate, features, gate
from .dataset import Dataset
from .head import Head
from .quantize import SCHEMES, Scheme, quantize


@dataclass(frozen=True)
class Exact:
    """What FP32 gave, to compare with.

    Attributes:
        data: The training images.
        features: ``float32 [N, C]``.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        heads: One head a fold, by protocol.
        scores: Of `evaluate.score`, by protocol.
    """

    data: Dataset
    features: np.ndarray
    splits: Mapping[str, np.ndarray]
    heads: Mapping[str, list[Head]]
    scores: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Int8:
    """A quantized backbone.

    Attributes:
        scheme: How it was made.
        graph: What ships.
        features: ``float32 [N, C]``: every training image's, by a graph that was not calibrated on it.
        scores: By protocol, with ``agreement_fp32``.
        verdict: The gate's.
    """

    scheme: Scheme
    graph: onnx.ModelProto
    features: np.ndarray
    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]


def search(
    target: str,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    exact: Exact,
    halves: calibration.Halves,
    *,
    step: Callable[[str], AbstractContextManager[features.Progress]],
    tell: Callable[[str], None],
) -> list[Int8]:
    """Quantize for a target until a scheme passes.

    Args:
        target: A key of `SCHEMES`.
        graph: The FP32 backbone.
        size: Height and width of its input.
        exact: FP32's answers.
        halves: Who is calibrated on, and who is judged.
        step: Opens a step under a title.
        tell: Says what was refused.

    Returns:
        Everything that was tried, in order; only the last can have passed.
    """
    tried = []
    for scheme in SCHEMES[target]:
        with step(f"Quantizing for {target} ({scheme.name})") as progress:
            tried.append(_attempt(target, scheme, graph, size, exact, halves, progress))
        if tried[-1].verdict["passed"]:
            return tried
        tell(f"INT8 for {target} by {scheme.name} was refused by the gate: {_losses(tried[-1].verdict)}")
    tell(f"no INT8 for {target} passed the gate: FP32 ships in its place")
    return tried


def _attempt(
    target: str,
    scheme: Scheme,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    exact: Exact,
    halves: calibration.Halves,
    progress: features.Progress,
) -> Int8:
    paths, digests = exact.data.paths, exact.data.digests
    rows = np.empty_like(exact.features)

    def quantized(numbers: np.ndarray) -> onnx.ModelProto:
        chosen = calibration.spread(numbers, scheme.images)
        return quantize(graph, scheme, np.stack(list(features.decoded([paths[i] for i in chosen], size))))

    def answer(made: onnx.ModelProto, judged: np.ndarray) -> None:
        chosen = [paths[i] for i in np.flatnonzero(judged)], [digests[i] for i in np.flatnonzero(judged)]
        rows[judged] = features.extract(made, *chosen, size, target=target, progress=progress)

    shipped = quantized(halves.shipped)
    answer(shipped, halves.judged_by_shipped)
    answer(quantized(halves.other), ~halves.judged_by_shipped)
    scores = {protocol: _score(exact, protocol, rows) for protocol in exact.splits}
    verdict = gate.judge(exact.scores["block"], scores["block"], exact.data.counts)
    return Int8(scheme, shipped, rows, scores, verdict)


def _score(exact: Exact, protocol: str, rows: np.ndarray) -> dict[str, Any]:
    """The same heads on the quantized backbone's features, and how often they give the same label."""
    heads, split = exact.heads[protocol], exact.splits[protocol]
    given, wanted = (evaluate.answer(heads, features, split) for features in (rows, exact.features))
    score = evaluate.score(exact.data.labels, given, exact.data.classes)
    return score | {"agreement_fp32": evaluate.agreement(given, wanted)}


def _losses(verdict: Mapping[str, Any]) -> str:
    parts = (f"{name} {verdict['lost'][name]} (allowed {verdict['allowed'][name]})" for name in verdict["lost"])
    return ", ".join(parts) + " points"
