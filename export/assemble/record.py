"""The record of a bundle, ``bundle.json``, from what an export measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from edge_all import machine
from edge_all.record import (
    DatasetRecord,
    Familiarity,
    Gate,
    HeldOut,
    InputCheckRecord,
    InputRecord,
    Metrics,
    OutsidersRecord,
    RecordBody,
    Referral,
    Robustness,
    TapTable,
    Verified,
    WeightsRecord,
)

from ..backbones import Backbone, Place
from ..dataset import kaggle, leaks
from ..graph.weights import Weights
from ..head.drift import Drift
from ..head.fit import Head
from ..head.reference import Reference
from ..quantize.attempt import SearchResult
from ..quantize.float16 import Half
from ..recipe import Recipe
from .variants import Variant, models
from .versions import versions


@dataclass(frozen=True)
class Export:
    """Everything that a record tells of.

    Attributes:
        recipe: What was asked for.
        backbone: The network.
        weights: Its weights.
        places: Where features are taken.
        taps: What ``--tap auto`` compared; None where the tap was given.
        reference: The FP32 pipeline.
        duplicates: ``int64 [N]``: near-duplicate group of each image.
        searches: What became of INT8, by target.
        half: What FP16 lost; None where it was not tried.
        robustness: Accuracy under the battery.
        familiarity: The limit of what is familiar.
        referral: When an image is referred to a person.
        drift: How runs of fields are judged; None where they are not.
        input_check: What tells why a picture is unfamiliar.
        head: The head that ships.
        variants: The fused graphs.
        verified: How these agree with their parts.
        outsiders: What they say to pictures that are no fields.
        held_out: Their scores on images kept out of everything; None where there are none.
    """

    recipe: Recipe
    backbone: Backbone
    weights: Weights
    places: Sequence[Place]
    taps: TapTable | None
    reference: Reference
    duplicates: np.ndarray
    searches: Mapping[str, SearchResult]
    half: Half | None
    robustness: Robustness
    familiarity: Familiarity
    referral: Referral
    drift: Drift | None
    input_check: InputCheckRecord
    head: Head
    variants: Sequence[Variant]
    verified: Mapping[str, Verified]
    outsiders: OutsidersRecord
    held_out: HeldOut | None


def build(e: Export) -> RecordBody:
    """All of the record but what writing the bundle adds: protocol, files and digest."""
    recipe, conditions, reference = e.recipe, e.recipe.conditions, e.reference
    body: RecordBody = {
        "name": pipeline_name(recipe),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "classes": list(reference.data.classes),
        "backbone": recipe.backbone,
        "tap": "+".join(place.name for place in e.places),
        "channels": sum(place.channels for place in e.places),
        "backbone_macs": max(place.tap.macs for place in e.places),
        "taps": e.taps,
        "cut": {v.target or v.precision: v.cut.record for v in e.variants if v.precision != "fp16"},
        "augment": conditions.augment,
        "balance": conditions.balance,
        "setting": recipe.setting,
        "selector": recipe.selector,
        "classifier": recipe.classifier,
        "features": e.head.features,
        "seed": conditions.seed,
        "input": _input(e),
        "models": models(e.variants, recipe.targets),
        "metrics": _metrics(reference, e.searches, e.half),
        "robustness": e.robustness,
        "familiarity": e.familiarity,
        "referral": e.referral,
        "gate": gate(e.searches, e.outsiders),
        "outsiders": e.outsiders,
        "verified": e.verified,
        "dataset": _dataset(e),
        "held_out": e.held_out,
        "weights": _weights(e.weights),
        "schemes": {target: search.shipped.name for target, search in e.searches.items() if search.shipped},
        "tools": versions(),
        "machine": machine.describe(),
        "input_check": e.input_check,
    }
    if recipe.scale:
        body["scale"] = recipe.scale
    if e.drift:
        body["drift"] = e.drift.record
    if positive := reference.scorer.positive:
        body["positive"] = [body["classes"][k] for k in positive]
    return body


def pipeline_name(recipe: Recipe) -> str:
    """Backbone, selector and classifier."""
    return f"{recipe.backbone}-{recipe.selector}-{recipe.classifier}"


def _input(e: Export) -> InputRecord:
    height, width = e.reference.size
    taken: InputRecord = {
        "height": height,
        "width": width,
        "equalize": e.recipe.conditions.equalize,
        "mask_corner": e.recipe.conditions.mask_corner,
        "mean": list(e.backbone.mean),
        "std": list(e.backbone.std),
    }
    full = max((c["size"][1] for c in e.taps["candidates"]), default=width) if e.taps else width
    if full > width:
        taken["full_width"] = full
    return taken


def _metrics(reference: Reference, searches: Mapping[str, SearchResult], half: Half | None) -> dict[str, Metrics]:
    """Scores by protocol and precision; ``int8`` is the worst of the targets, with each target's own beside it."""
    metrics: dict[str, Metrics] = {}
    for protocol, score in reference.scores.items():
        metrics[protocol] = {"fp32": score}
        if half:
            metrics[protocol]["fp16"] = half.scores[protocol]
        by_target = {target: search.best.head.scores[protocol] for target, search in searches.items() if search.best}
        if by_target:
            worst = min(by_target.values(), key=lambda score: score["accuracy"])
            metrics[protocol]["int8"] = {**worst, "targets": by_target}
    return metrics


def gate(searches: Mapping[str, SearchResult], outsiders: OutsidersRecord) -> Gate:
    """What became of INT8 for each target, and whether the bundle may be used at all."""
    verdicts = {target: search.verdict for target, search in searches.items()}
    passed = outsiders["passed"] and all(verdict["passed"] for verdict in verdicts.values())
    return {"passed": passed, "targets": verdicts}


def _dataset(e: Export) -> DatasetRecord:
    data = e.reference.data
    crossing = {protocol: leaks(folds, e.duplicates) for protocol, folds in e.reference.splits.items()}
    record: DatasetRecord = {
        "name": data.root.name,
        "source": e.recipe.source or _source(e.recipe),
        "images": len(data),
        "counts": data.counts,
        "fingerprint": data.fingerprint,
        "groups": int(e.duplicates.max()) + 1,
        "near_duplicates_across_folds": crossing,
    }
    if data.given:
        record["given_groups"] = len(set(data.given))
    return record


def _source(recipe: Recipe) -> str:
    given = recipe.conditions.data or recipe.conditions.labels
    return kaggle.UNKNOWN if given else f"{kaggle.TITLE}, DOI {kaggle.DOI}"


def _weights(weights: Weights) -> WeightsRecord:
    return {"source": weights.source, "digest": weights.digest, "pretrained": weights.pretrained}
