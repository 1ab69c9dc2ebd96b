"""Robustness curves: the best pipeline's accuracy as light, focus, turn, compression and scale move away.

Two heads stand side by side: one fitted on the images as they are, and one on changed copies beside them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from .. import backbones, features
from ..dataset import augment
from ..dataset.augment import Change
from ..head import evaluate
from ..head.evaluate import Rows
from ..quantize import calibration
from . import settings, table
from .picks import Study

FILE = "curves.json"
HEADS = ("plain", "augmented")
COPIES = 3
IMAGES = 260
"""Images that every level is tried on, spread over the data set."""

GAINS = ("red", "green", "blue")


def _gains(red: float = 1.0, green: float = 1.0, blue: float = 1.0) -> Change | None:
    if red == green == blue == 1:
        return None
    return Change(f"red x{red}, green x{green}, blue x{blue}", gains=(red, green, blue))


_STEPS = (0.8, 0.9, 1.0, 1.1, 1.2)

CURVES: Mapping[str, Mapping[float, Change | None]] = {
    **{f"{name} gain": {gain: _gains(**{name: gain}) for gain in _STEPS} for name in GAINS},
    "white balance, red over blue": {gain: _gains(red=gain, blue=round(2 - gain, 1)) for gain in _STEPS},
    "brightness": {gain: _gains(gain, gain, gain) for gain in (0.7, 0.85, 1.0, 1.15, 1.3)},
    "blur, px": {s: Change(f"blur of {s} px", blur=s) if s else None for s in (0, 0.5, 1, 1.5, 2, 3)},
    "JPEG quality": {q: Change(f"JPEG {q}", jpeg=q) if q != 100 else None for q in (10, 20, 50, 75, 90, 100)},
    "turn, degrees": {a: Change(f"turned by {a}", angle=a) if a else None for a in (0, 15, 45, 90, 180)},
    "scale": {z: Change(f"scale x{z}", zoom=z) if z != 1 else None for z in (0.8, 0.9, 1.0, 1.1, 1.25)},
    "mirrored": {0: None, 1: Change("mirrored", mirrored=True)},
}
"""Levels of each curve; None is the image as it is."""


def write(study: Study, progress: Callable[[int, int], None]) -> None:
    """Write ``curves.json`` into the study's folder, unless that of the same winner is there."""
    path, best, asked = study.settings.out / FILE, study.own[0], study.settings
    whose = table.cell(best).key
    if path.exists() and json.loads(path.read_text())["pipeline"] == whose:
        return
    name, protocol, data = best["backbone"], best["protocol"], study.data
    graph, size = study.graphs[name], asked.size or backbones.load(name).input_size
    tried = calibration.spread(np.arange(len(data)), IMAGES)
    part, folds = data.subset(np.isin(np.arange(len(data)), tried)), study.ground.splits[protocol]
    changes = [change for levels in CURVES.values() for change in levels.values() if change]
    total = len(changes) + COPIES
    extract = partial(features.extract, graph, size=size)
    plain = Rows(extract(data.paths, data.digests))
    copies = []
    for done, copy in enumerate(augment.copies(COPIES, asked.seed)):
        progress(done, total)
        copies.append(extract(data.paths, data.digests, change=copy))
    trained = zip(HEADS, (plain, Rows(plain.plain, tuple(copies))), strict=True)
    heads = {key: evaluate.fold_heads(rows, data.labels, folds, study.fit(best)) for key, rows in trained}
    rows = {}
    for done, change in enumerate(changes, COPIES):
        progress(done, total)
        rows[change.name] = extract(part.paths, part.digests, change=change)
    clean = plain.plain[tried]

    def accuracy(key: str, change: Change | None) -> float:
        given = evaluate.answer(heads[key], rows[change.name] if change else clean, folds[tried]).argmax(1)
        return round(100 * float((given == part.labels).mean()), 2)

    curves = {
        title: [{"level": level} | {key: accuracy(key, change) for key in HEADS} for level, change in levels.items()]
        for title, levels in CURVES.items()
    }
    found = {"pipeline": whose, "protocol": protocol, "images": len(part), "copies": COPIES, "curves": curves}
    settings.write(path, json.dumps(found | {"gains": gain_losses(curves)}, indent=1))


def gain_losses(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Points lost under a gain of 0.9 or 1.1 of one channel, by head: each change, their mean and the worst."""
    lost: dict[str, dict[str, float]] = {key: {} for key in HEADS}
    for name in GAINS:
        points = {point["level"]: point for point in curves[f"{name} gain"]}
        for gain in (0.9, 1.1):
            for key in HEADS:
                lost[key][f"{name} x{gain}"] = round(points[1][key] - points[gain][key], 2)
    return {
        key: {"changes": own, "mean": round(float(np.mean(list(own.values()))), 3), "worst": max(own.values())}
        for key, own in lost.items()
    }


def sentence(found: Mapping[str, Any]) -> str:
    """What the gains say, in words that a reader can act on."""
    plain, augmented = (found["gains"][key] for key in HEADS)
    return (
        f"A gain of 10 % on one channel costs the pipeline {plain['mean']:.2f} points on average and "
        f"{plain['worst']:.2f} at worst; with {found['copies']} changed copies of every training image "
        f"{augmented['mean']:.2f} and {augmented['worst']:.2f} ({found['images']} images, {found['protocol']}). "
        + ("Train with --augment." if augmented["mean"] < plain["mean"] else "Copies do not help this pipeline here.")
    )
