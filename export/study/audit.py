"""Baselines that put a score in context: colour alone, the scale bar alone, duplicates, and the gap between splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict, cast

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .. import backbones, classifiers, features
from ..dataset import leaks
from ..features import Rows
from ..graph.build import backbone_graph
from ..graph.preprocess import Preprocess, corner
from ..head import evaluate
from ..head.fit import inner_splits
from .store import write
from .study import Study
from .table import Row

FILE = "audit.json"

NEAREST = "nearest neighbour"

_SIDE = 224  # pixels, at which colour and corner are looked at


class Duplicates(TypedDict):
    """Images that are there more than once."""

    images: int
    """All there are."""
    identical: int
    """Images that are byte for byte the same as another."""
    groups: int
    """Groups of near-duplicates."""
    in_groups: int
    """Images in these groups."""
    leaks: dict[str, int]
    """Test images with a near-duplicate in training, by protocol."""


class Basis(TypedDict):
    """What an audit was made for; for another it is made anew."""

    pipeline: str
    """Key of the best cell."""
    protocols: list[str]


class Masked(TypedDict):
    """Accuracy by protocol, in percent, with the corner as it is and painted grey."""

    before: dict[str, float]
    after: dict[str, float]


class Findings(TypedDict):
    """The part of an audit that depends on the data set and the best pipeline alone; accuracies in percent."""

    whose: Basis
    duplicates: Duplicates
    colour: dict[str, dict[str, float]]
    """Accuracy on six colour numbers, by protocol and classifier."""
    corner: dict[str, float]
    """Accuracy of the nearest neighbour on the corner's pixels, by protocol."""
    largest_class: float
    """Accuracy of always answering with the largest class."""
    mask: Masked


class Audit(Findings):
    """``audit.json``."""

    gap: dict[str, float]
    """Points that half of the pipelines lose or more against ``random``, by protocol."""


def write_audit(study: Study) -> Audit:
    """Audit a study and write ``audit.json`` into its folder.

    What is there already for the same best pipeline and protocols is taken from there, but for the gap.
    """
    path = study.settings.out / FILE
    basis: Basis = {"pipeline": study.best.cell.key, "protocols": sorted(study.inputs.splits)}
    findings = cast(Findings, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
    if findings is None or findings["whose"] != basis:
        findings = _find(study, basis)
    audit = cast(Audit, findings | {"gap": gap(study.cells)})
    write(path, json.dumps(audit, indent=1))
    return audit


def _find(study: Study, basis: Basis) -> Findings:
    colours, corners = colours_and_corners(study)
    splits = study.inputs.splits
    return {
        "whose": basis,
        "duplicates": duplicates(study),
        "colour": {protocol: _colour(study, colours, folds) for protocol, folds in splits.items()},
        "corner": {protocol: _nearest(study, corners, folds) for protocol, folds in splits.items()},
        "largest_class": evaluate.percent(np.bincount(study.data.labels).max() / len(study.data), 2),
        "mask": masked(study, study.best),
    }


def colours_and_corners(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Of every image: mean and standard deviation of each channel ``[N, 6]``, and its corner's pixels ``[N, M]``."""
    colours, corners = [], []
    for pixels in features.decoded(study.data.paths, (_SIDE, _SIDE)):
        colours.append(np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1))]))
        corners.append(corner(pixels).reshape(-1) / 255)
    return np.array(colours), np.array(corners, np.float32)


def duplicates(study: Study) -> Duplicates:
    """Byte-identical images, near-duplicates, and how many images are tested beside one that was trained on."""
    _, counts = np.unique(np.array(study.data.digests), return_counts=True)
    _, near = np.unique(study.duplicates, return_counts=True)
    return {
        "images": len(study.data),
        "identical": int(counts[counts > 1].sum()),
        "groups": int((near > 1).sum()),
        "in_groups": int(near[near > 1].sum()),
        "leaks": {protocol: leaks(folds, study.duplicates) for protocol, folds in study.inputs.splits.items()},
    }


def masked(study: Study, row: Row) -> Masked:
    """A pipeline's accuracy with the corner as it is and painted grey, without changed copies in training."""
    name, conditions = row.cell.backbone, study.settings.conditions
    backbone = backbones.load(name)
    size = conditions.size or backbone.input_size

    def accuracy(mask_corner: bool) -> dict[str, float]:
        preprocess = Preprocess(conditions.equalize, mask_corner)
        graph = backbone_graph(
            backbone, study.weights[name], tap_name=row.cell.tap, input_size=conditions.size, preprocess=preprocess
        )
        rows = Rows(features.extract(graph, study.data, size))
        by_protocol = {}
        for protocol, folds in study.inputs.splits.items():
            heads = evaluate.fold_heads(rows, study.data.labels, folds, study.spec(row))
            predicted = evaluate.answer(heads, rows.plain, folds).argmax(1)
            by_protocol[protocol] = evaluate.percent((predicted == study.data.labels).mean(), 2)
        return by_protocol

    return {"before": accuracy(False), "after": accuracy(True)}


def gap(rows: Sequence[Row]) -> dict[str, float]:
    """Points that pipelines score less than under ``random``, by protocol: the median over all of them."""
    accuracy = {row.cell: row.scores.accuracy for row in rows}
    lost: dict[str, list[float]] = {}
    for cell, value in accuracy.items():
        under_random = cell.under("random")
        if cell.protocol != "random" and under_random in accuracy:
            lost.setdefault(cell.protocol, []).append(accuracy[under_random] - value)
    return {protocol: round(float(np.median(points)), 2) for protocol, points in lost.items()}


def _colour(study: Study, colours: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Accuracy on six numbers an image: the nearest neighbour, and each classifier with its default setting."""

    def build(name: str, labels: np.ndarray) -> ClassifierMixin:
        splits = inner_splits(labels, np.arange(len(labels)), 0)
        return classifiers.build(name, study.settings.conditions.seed, splits)

    return {NEAREST: _nearest(study, colours, folds)} | {
        name: _cross_validated(partial(build, name), colours, study.data.labels, folds)
        for name in study.settings.classifiers
    }


def _nearest(study: Study, rows: np.ndarray, folds: np.ndarray) -> float:
    return _cross_validated(lambda labels: KNeighborsClassifier(1, algorithm="brute"), rows, study.data.labels, folds)


def _cross_validated(
    build: Callable[[np.ndarray], ClassifierMixin], rows: np.ndarray, labels: np.ndarray, folds: np.ndarray
) -> float:
    """Accuracy, in percent, of a scaler and a classifier that is built for the labels it is fitted on."""
    right = np.zeros(len(folds), bool)
    for k in range(int(folds.max()) + 1):
        train, test = folds != k, folds == k
        model = make_pipeline(StandardScaler(), build(labels[train]))
        model.fit(rows[train], labels[train])
        right[test] = model.predict(rows[test]) == labels[test]
    return evaluate.percent(right.mean(), 2)
