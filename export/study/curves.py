"""Robustness curves: the best pipeline's accuracy as light, focus, rotation, compression and scale change.

Two heads are compared: one fitted on the images as they are, and one on changed copies beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypedDict, cast

import numpy as np

from edge_all.progress import Progress, split

from .. import backbones, features
from ..dataset import spread
from ..dataset.changes import Change
from ..features import Rows, Wanted
from ..head import evaluate
from .store import write
from .study import Study

FILE = "curves.json"
COPIES = 3
IMAGES = 260
"""Images that every level is tried on, spread over the data set."""

GAINS = ("red", "green", "blue")

Training = Literal["plain", "augmented"]
"""What a head was fitted on: the images as they are, or changed copies beside them."""

TRAININGS: tuple[Training, ...] = ("plain", "augmented")


class Point(TypedDict):
    """A level of a curve, and the accuracy of each head there, in percent."""

    level: float
    plain: float
    augmented: float


class Losses(TypedDict):
    """Points of accuracy lost by one head."""

    changes: dict[str, float]
    """By change."""
    mean: float
    worst: float


class GainLosses(TypedDict):
    """Points of accuracy lost under a gain of 10 % on one channel, by head."""

    plain: Losses
    augmented: Losses


class Curves(TypedDict):
    """``curves.json``."""

    pipeline: str
    """Key of the cell whose curves these are."""
    protocol: str
    images: int
    """How many were changed and evaluated."""
    copies: int
    """Changed copies of every training image, of the augmented head."""
    curves: dict[str, list[Point]]
    gains: GainLosses


def _gains(red: float = 1.0, green: float = 1.0, blue: float = 1.0) -> Change | None:
    if red == green == blue == 1:
        return None
    return Change(f"red x{red}, green x{green}, blue x{blue}", gains=(red, green, blue))


_LEVELS = (0.8, 0.9, 1.0, 1.1, 1.2)

CURVES: Mapping[str, Mapping[float, Change | None]] = {
    **{f"{name} gain": {gain: _gains(**{name: gain}) for gain in _LEVELS} for name in GAINS},
    "white balance, red over blue": {gain: _gains(red=gain, blue=round(2 - gain, 1)) for gain in _LEVELS},
    "brightness": {gain: _gains(gain, gain, gain) for gain in (0.7, 0.85, 1.0, 1.15, 1.3)},
    "blur, px": {s: Change(f"blur of {s} px", blur=s) if s else None for s in (0, 0.5, 1, 1.5, 2, 3)},
    "JPEG quality": {q: Change(f"JPEG {q}", jpeg=q) if q != 100 else None for q in (10, 20, 50, 75, 90, 100)},
    "turn, degrees": {a: Change(f"turned by {a}", angle=a) if a else None for a in (0, 15, 45, 90, 180)},
    "scale": {z: Change(f"scale x{z}", zoom=z) if z != 1 else None for z in (0.8, 0.9, 1.0, 1.1, 1.25)},
    "mirrored": {0: None, 1: Change("mirrored", mirrored=True)},
}
"""Levels of each curve; None is the image as it is."""


def write_curves(study: Study, progress: Progress) -> Curves:
    """Measure the best pipeline and write ``curves.json``, unless the curves of the same pipeline are there."""
    path = study.settings.out / FILE
    if path.exists():
        stored = cast(Curves, json.loads(path.read_text(encoding="utf-8")))
        if stored["pipeline"] == study.best.cell.key:
            return stored
    curves = _measure(study, progress)
    write(path, json.dumps(curves, indent=1))
    return curves


def _measure(study: Study, progress: Progress) -> Curves:
    cell, data, conditions = study.best.cell, study.data, study.settings.conditions
    graph = study.graphs[cell.backbone]
    size = conditions.size or backbones.load(cell.backbone).input_size
    tried = spread(np.arange(len(data)), IMAGES)
    part = data.take(tried)
    changes = [change for levels in CURVES.values() for change in levels.values() if change]
    trained, tested = split(progress, [len(data) * (1 + COPIES), len(part) * len(changes)])
    copied = replace(conditions, augment=COPIES, balance=False)
    augmented = features.training_rows(graph, data, size, copied, trained)
    (made,) = features.extract_each([Wanted(graph)], part, size, changes, tested)
    changed = dict(zip(changes, made, strict=True))
    folds = study.inputs.splits[cell.protocol]
    heads = {
        training: evaluate.fold_heads(rows, data.labels, folds, study.spec(study.best))
        for training, rows in zip(TRAININGS, (Rows(augmented.plain), augmented), strict=True)
    }

    def accuracy(training: Training, change: Change | None) -> float:
        rows = changed[change] if change else augmented.plain[tried]
        predicted = evaluate.answer(heads[training], rows, folds[tried]).argmax(1)
        return evaluate.percent((predicted == part.labels).mean(), 2)

    curves: dict[str, list[Point]] = {
        title: [
            {"level": level, "plain": accuracy("plain", change), "augmented": accuracy("augmented", change)}
            for level, change in levels.items()
        ]
        for title, levels in CURVES.items()
    }
    return {
        "pipeline": cell.key,
        "protocol": cell.protocol,
        "images": len(part),
        "copies": COPIES,
        "curves": curves,
        "gains": gain_losses(curves),
    }


def gain_losses(curves: Mapping[str, Sequence[Point]]) -> GainLosses:
    """Points lost under a gain of 0.9 or 1.1 of one channel, by head: each change, their mean and the worst."""

    def losses(training: Training) -> Losses:
        lost = {}
        for name in GAINS:
            accuracy = {point["level"]: point[training] for point in curves[f"{name} gain"]}
            for gain in (0.9, 1.1):
                lost[f"{name} x{gain}"] = round(accuracy[1] - accuracy[gain], 2)
        return {"changes": lost, "mean": round(float(np.mean(list(lost.values()))), 3), "worst": max(lost.values())}

    return {"plain": losses("plain"), "augmented": losses("augmented")}
