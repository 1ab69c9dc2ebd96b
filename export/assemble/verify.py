"""Run the fused graphs as a device will, and compare them with the parts that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_all.errors import EdgeAllError
from edge_all.progress import Progress, ignore, split
from edge_all.record import HeldOutScore, OutsidersRecord, Status, Verified
from edge_all.targets import Answers, Engine, EngineOptions, open_engine

from .. import features, outsiders, runners
from ..dataset import Dataset, spread
from ..head import evaluate
from ..head.reference import Reference
from ..head.scorer import Scorer
from .variants import Variant, by_target

SAMPLE = 64
"""Images that the fused graphs are compared on."""

LEAST_AGREEMENT = 95.0
"""Percent of images with the same label that a fused graph and its parts must reach; below it the fusion is broken."""


def answers(
    target: str, model: bytes, images: Iterable[np.ndarray], progress: Progress = ignore, total: int = 0
) -> Answers:
    """Run a fused graph one image at a time.

    Args:
        target: Where to run it, as far as that is possible here (`runners.engine_of`).
        model: The ONNX file's bytes.
        images: ``uint8 [H, W, 3]`` each.
        progress: Counts images.
        total: How many there are, for `progress`.
    """
    engine = open_engine(model, EngineOptions(runners.engine_of(target)))
    given = []
    for image in images:
        given.append(engine.run(image[np.newaxis]))
        progress(len(given), total)
    probabilities, unfamiliarity, deviation = zip(*given, strict=True)
    return Answers(np.concatenate(probabilities), _joined(unfamiliarity), _joined(deviation))


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


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
        fused = answers(target, variant.model, images).probabilities
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
        engine = open_engine(variant.model, EngineOptions(runners.engine_of(target)))

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


@dataclass(frozen=True)
class Measured:
    """Fused graphs, and what they were made from.

    Attributes:
        graphs: The graphs.
        reference: The FP32 pipeline, fitted on these graphs' training images.
        threshold: The probability below which an image is referred to a person.
    """

    graphs: Sequence[Variant]
    reference: Reference
    threshold: float


def held_out_scores(
    measured: Measured, targets: Sequence[str], scorer: Scorer, progress: Progress = ignore
) -> dict[str, HeldOutScore]:
    """Score graphs, by "target.precision", on images that were kept out of everything that they were made from."""
    held_out = scorer.data
    pairs = by_target(measured.graphs, targets)
    given: dict[tuple[str, str], Answers] = {}
    for (target, variant), part in zip(pairs, split(progress, [1.0] * len(pairs)), strict=True):
        images = features.decoded(held_out.paths, measured.reference.size)
        given[target, variant.precision] = answers(target, variant.model, images, part, len(held_out))
    scores: dict[str, HeldOutScore] = {}
    for (target, precision), answer in given.items():
        scores[f"{target}.{precision}"] = {
            **scorer.score(answer.probabilities),
            **_status(held_out.labels, answer, measured.threshold),
            "agreement_fp32": evaluate.agreement(answer.probabilities, given[target, "fp32"].probabilities),
        }
    return scores


def _status(labels: np.ndarray, answer: Answers, threshold: float) -> Status:
    """Shares of images with each status, in percent, as the runtime gives it."""
    distance = np.zeros(len(labels)) if answer.unfamiliarity is None else answer.unfamiliarity
    familiar = distance <= 1
    ok = familiar & (answer.probabilities.max(1) >= threshold)
    wrong = ok & (answer.probabilities.argmax(1) != labels)
    return {
        "familiar": evaluate.percent(familiar.mean()),
        "ok": evaluate.percent(ok.mean()),
        "wrong_ok": evaluate.percent(wrong.mean()),
    }
