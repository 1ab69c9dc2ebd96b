"""Run the finished graphs as a device will, and compare with the steps that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError
from edge_all.targets import open_engine

from .. import features
from ..dataset import Dataset
from ..head import evaluate
from ..head.fit import Head
from ..quantize import calibration

SAMPLE = 64
"""Images that the fused graphs are compared on."""

LEAST_AGREEMENT = 95.0
"""Percent of labels that fused and staged must share; under it the fusion itself is broken, not a rounding."""


def probabilities(target: str, model: bytes, images: Iterable[np.ndarray]) -> np.ndarray:
    """Run a fused graph one image at a time.

    Args:
        target: Where to run it, as far as that is possible here (`features.engine_of`).
        model: The ONNX file's bytes.
        images: ``uint8 [H, W, 3]`` each.

    Returns:
        ``float32 [N, K]``.
    """
    engine = open_engine(features.engine_of(target), model)
    return np.concatenate([engine.run(image[np.newaxis]).probabilities for image in images])


def verify_fused(
    graphs: Mapping[str, bytes],
    models: Mapping[str, Mapping[str, str]],
    heads: Mapping[str, Head],
    backbones: Mapping[str, onnx.ModelProto],
    data: Dataset,
    size: tuple[int, int],
) -> dict[str, dict[str, float]]:
    """Compare every fused graph with features and head run apart.

    Args:
        graphs: Fused graphs by key: ``fp32``, ``fp16``, or the target of an INT8 one.
        models: The bundle's table of targets and precisions.
        heads: The heads that were fused, by the same keys.
        backbones: The uncut backbones, likewise; FP32's for ``fp16`` too.
        data: The images they came from.
        size: Height and width of the input.

    Returns:
        By "target.precision": images, agreement in percent, largest difference of a probability.

    Raises:
        EdgeAllError: They disagree, so the bundle must not be written.
    """
    numbers = calibration.spread(np.arange(len(data)), SAMPLE)
    part = data.subset(np.isin(np.arange(len(data)), numbers))
    images = list(features.decoded(part.paths, size))
    found = {}
    for target, precisions in models.items():
        for precision in precisions:
            key = graph_key(target, precision)
            fused = probabilities(target, graphs[key], images)
            apart = heads[key].predict_proba(
                features.extract(backbones[key], part.paths, part.digests, size, target=target)
            )
            agreement = evaluate.agreement(fused, apart)
            if agreement < LEAST_AGREEMENT:
                raise EdgeAllError(
                    f"the fused {precision} graph for {target} gives the label of its parts on {agreement:.0f} % of "
                    f"{len(numbers)} images, and {LEAST_AGREEMENT:.0f} % is wanted: nothing was written"
                )
            found[f"{target}.{precision}"] = {
                "images": len(numbers),
                "agreement": agreement,
                "max_difference": float(np.abs(fused - apart).max()),
            }
    return found


def held_out_scores(
    graphs: Mapping[str, bytes],
    models: Mapping[str, Mapping[str, str]],
    held_out: Dataset,
    size: tuple[int, int],
    progress: features.Progress | None = None,
) -> dict[str, Any]:
    """Score the finished graphs on images that were kept out of everything.

    Returns:
        ``images``, and by "target.precision" a score with ``agreement_fp32``.
    """
    scores: dict[str, Any] = {}
    done, total = 0, sum(map(len, models.values()))
    for target, precisions in models.items():
        answers = {}
        for precision in precisions:
            images = features.decoded(held_out.paths, size)
            answers[precision] = probabilities(target, graphs[graph_key(target, precision)], images)
            done += 1
            if progress:
                progress(done, total)
        for precision, given in answers.items():
            figures = evaluate.score(held_out.labels, given, held_out.classes)
            figures["agreement_fp32"] = evaluate.agreement(given, answers["fp32"])
            scores[f"{target}.{precision}"] = figures
    return {"protocol": "block, last of five runs", "images": len(held_out), "scores": scores}


def graph_key(target: str, precision: str) -> str:
    """The graphs in floating point serve every target; an INT8 graph has the name of its own."""
    return target if precision == "int8" else precision
