"""Run the fused graphs as a device will, and compare them with the parts that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from edge_all.errors import EdgeAllError
from edge_all.progress import Progress, ignore, split
from edge_all.record import HeldOut, OutsidersRecord, Score, Verified
from edge_all.targets import Answers, Engine, EngineOptions, open_engine

from .. import features, outsiders
from ..dataset import Dataset, spread
from ..head import evaluate
from .variants import Variant, by_target

SAMPLE = 64
"""Images that the fused graphs are compared on."""

LEAST_AGREEMENT = 95.0
"""Percent of images with the same label that a fused graph and its parts must reach; below it the fusion is broken."""


def probabilities(
    target: str, model: bytes, images: Iterable[np.ndarray], progress: Progress = ignore, total: int = 0
) -> np.ndarray:
    """Run a fused graph one image at a time.

    Args:
        target: Where to run it, as far as that is possible here (`features.engine_of`).
        model: The ONNX file's bytes.
        images: ``uint8 [H, W, 3]`` each.
        progress: Counts images.
        total: How many there are, for `progress`.

    Returns:
        ``float32 [N, K]``.
    """
    engine = open_engine(model, EngineOptions(features.engine_of(target)))
    answers = []
    for image in images:
        answers.append(engine.run(image[np.newaxis]).probabilities)
        progress(len(answers), total)
    return np.concatenate(answers)


def verify_fused(
    variants: Sequence[Variant], targets: Sequence[str], data: Dataset, size: tuple[int, int]
) -> dict[str, Verified]:
    """Compare every fused graph with its backbone and its head run one after the other.

    Args:
        variants: The fused graphs.
        targets: Of the bundle.
        data: The training images.
        size: Height and width of the input.

    Returns:
        By "target.precision".

    Raises:
        EdgeAllError: They disagree, so the bundle must not be written.
    """
    sample = data.take(spread(np.arange(len(data)), SAMPLE))
    images = list(features.decoded(sample.paths, size))
    verified: dict[str, Verified] = {}
    for target, variant in by_target(variants, targets):
        fused = probabilities(target, variant.model, images)
        in_parts = variant.head.predict_proba(features.extract(variant.backbone, sample, size, target=target))
        agreement = evaluate.agreement(fused, in_parts)
        if agreement < LEAST_AGREEMENT:
            raise EdgeAllError(
                f"the fused {variant.precision} graph for {target} gives the label of its parts on {agreement:.0f} % "
                f"of {len(sample)} images, and {LEAST_AGREEMENT:.0f} % is wanted: nothing was written"
            )
        verified[f"{target}.{variant.precision}"] = {
            "images": len(sample),
            "agreement": agreement,
            "max_difference": float(np.abs(fused - in_parts).max()),
        }
    return verified


def show_outsiders(
    variants: Sequence[Variant], targets: Sequence[str], size: tuple[int, int], threshold: float
) -> OutsidersRecord:
    """Show pictures that are no fields to every fused graph: none of them may be answered with ``ok``.

    Args:
        variants: The fused graphs.
        targets: Of the bundle.
        size: Height and width of the input.
        threshold: Below this probability of the most probable class an image is referred.
    """
    strangers = list(outsiders.pictures(size))
    tallies = {}
    for target, variant in by_target(variants, targets):
        engine = open_engine(variant.model, EngineOptions(features.engine_of(target)))

        def is_ok(pixels: np.ndarray, engine: Engine = engine) -> bool:
            return _is_ok(engine.run(pixels[np.newaxis]), threshold)

        tallies[f"{target}.{variant.precision}"] = outsiders.tally(is_ok, strangers)
    worst = max(tallies.values(), key=lambda tally: tally.ok.total())
    return {
        "passed": not worst.ok,
        "pictures": worst.pictures,
        "ok": {name: tally.ok.total() for name, tally in tallies.items()},
        "kinds": dict(worst.ok.most_common()),
    }


def _is_ok(answers: Answers, threshold: float) -> bool:
    """Whether a graph's answer to one picture has the status ``ok``."""
    familiar = answers.unfamiliarity is None or answers.unfamiliarity[0] <= 1
    return bool(familiar and answers.probabilities.max() >= threshold)


def held_out_scores(
    variants: Sequence[Variant],
    targets: Sequence[str],
    held_out: Dataset,
    size: tuple[int, int],
    progress: Progress = ignore,
) -> HeldOut:
    """Score the finished graphs on images that were kept out of everything."""
    pairs = by_target(variants, targets)
    answers: dict[tuple[str, str], np.ndarray] = {}
    for (target, variant), part in zip(pairs, split(progress, [1.0] * len(pairs)), strict=True):
        images = features.decoded(held_out.paths, size)
        answers[target, variant.precision] = probabilities(target, variant.model, images, part, len(held_out))
    scores: dict[str, Score] = {}
    for (target, precision), given in answers.items():
        score = evaluate.score(held_out.labels, given, held_out.classes)
        score["agreement_fp32"] = evaluate.agreement(given, answers[target, "fp32"])
        scores[f"{target}.{precision}"] = score
    return {"protocol": "block, last of five runs", "images": len(held_out), "scores": scores}
