"""Try a target's schemes in order and keep the first that passes the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError

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
        refit: Whether its head is fitted on the quantized backbone's own features, not on FP32's.
        graph: What ships.
        features: ``float32 [N, C]``: what `graph` gives for every training image.
        scores: By protocol, with ``agreement_fp32``; no image counts that its graph was calibrated on, and no head that
            was fitted on it.
        verdict: The gate's.
    """

    scheme: Scheme
    refit: bool
    graph: onnx.ModelProto
    features: np.ndarray
    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.scheme.name + (" with the head refitted" if self.refit else "")


def search(
    target: str,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    exact: Exact,
    halves: calibration.Halves,
    *,
    fit: evaluate.Fit,
    step: Callable[[str], AbstractContextManager[features.Progress]],
    tell: Callable[[str], None],
) -> list[Int8]:
    """Quantize for a target until something passes: each scheme first under FP32's head, then under a refitted one.

    Args:
        target: A key of `SCHEMES`.
        graph: The FP32 backbone.
        size: Height and width of its input.
        exact: FP32's answers.
        halves: Who is calibrated on, and who is judged.
        fit: Fits a head.
        step: Opens a step under a title.
        tell: Says what was refused.

    Returns:
        Everything that was tried and gave a graph, in order; only the last can have passed.
    """
    tried: list[Int8] = []
    for scheme in SCHEMES[target]:
        try:
            with step(f"Quantizing for {target} ({scheme.name})") as progress:
                quantized = _quantize(target, scheme, graph, size, exact.data, halves, progress)
        except EdgeAllError:
            raise
        except Exception as error:  # quantizers fail in many ways; another scheme may still do
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            tell(f"INT8 for {target} by {scheme.name} could not be made ({reason})")
            continue
        for refit in (False, True):
            if refit:
                with step("Refitting the head on its features"):
                    tried.append(_judge(scheme, quantized, exact, halves, fit))
            else:
                tried.append(_judge(scheme, quantized, exact, halves, None))
            if tried[-1].verdict["passed"]:
                return tried
            tell(f"INT8 for {target} by {tried[-1].name} was refused by the gate: {_losses(tried[-1].verdict)}")
    tell(f"no INT8 for {target} passed the gate: FP32 ships in its place")
    return tried


@dataclass(frozen=True)
class _Quantized:
    """The graph that ships, the other that judges its calibration images, and both their features of every image."""

    shipped: onnx.ModelProto
    shipped_rows: np.ndarray
    other_rows: np.ndarray


def _quantize(
    target: str,
    scheme: Scheme,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    data: Dataset,
    halves: calibration.Halves,
    progress: features.Progress,
) -> _Quantized:
    made, rows = [], []
    for numbers in (halves.shipped, halves.other):
        paths = [data.paths[i] for i in calibration.spread(numbers, scheme.images)]
        made.append(quantize(graph, scheme, np.stack(list(features.decoded(paths, size)))))
        rows.append(features.extract(made[-1], data.paths, data.digests, size, target=target, progress=progress))
    return _Quantized(made[0], *rows)


def _judge(
    scheme: Scheme, quantized: _Quantized, exact: Exact, halves: calibration.Halves, fit: evaluate.Fit | None
) -> Int8:
    """Score under FP32's heads, or where `fit` is given under heads fitted on the quantized features."""
    labels, scores = exact.data.labels, {}
    for protocol, split in exact.splits.items():
        wanted = evaluate.answer(exact.heads[protocol], exact.features, split)
        given = np.empty_like(wanted)
        for rows, judged in (
            (quantized.shipped_rows, halves.judged_by_shipped),
            (quantized.other_rows, ~halves.judged_by_shipped),
        ):
            heads = evaluate.fold_heads(rows, labels, split, fit) if fit else exact.heads[protocol]
            given[judged] = evaluate.answer(heads, rows[judged], split[judged])
        score = evaluate.score(labels, given, exact.data.classes)
        scores[protocol] = score | {"agreement_fp32": evaluate.agreement(given, wanted)}
    verdict = gate.judge(exact.scores["block"], scores["block"], exact.data.counts)
    return Int8(scheme, fit is not None, quantized.shipped, quantized.shipped_rows, scores, verdict)


def _losses(verdict: Mapping[str, Any]) -> str:
    parts = (f"{name} {verdict['lost'][name]} (allowed {verdict['allowed'][name]})" for name in verdict["lost"])
    return ", ".join(parts) + " points"
