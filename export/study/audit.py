"""What a score is to be read beside: colour alone, the scale bar alone, duplicates, and the gap between splits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .. import backbones, classifiers, features
from ..dataset import leaks
from ..graph.build import backbone_graph
from ..graph.preprocess import Preprocess, corner
from ..head import evaluate
from ..head.evaluate import Rows
from . import settings, table
from .picks import Study
from .table import Row

FILE = "audit.json"

_LITTLE = 0.5  # points
_SIDE = 224  # pixels, at which colour and corner are looked at


def write(study: Study) -> None:
    """Write ``audit.json`` into the study's folder.

    What is kept there from before is not worked out again where it depends on nothing but the data set and the winner.
    """
    path = study.settings.out / FILE
    best = study.own[0]
    done = json.loads(path.read_text()) if path.exists() else {}
    whose = {"pipeline": table.cell(best).key, "protocols": sorted(study.ground.splits)}
    if done.get("whose") != whose:
        colours, corners = looks(study)
        done = {
            "whose": whose,
            "duplicates": duplicates(study),
            "colour": {name: _colour(study, colours, folds) for name, folds in study.ground.splits.items()},
            "corner": {name: _nearest(study, corners, folds) for name, folds in study.ground.splits.items()},
            "largest_class": round(100 * float(np.bincount(study.data.labels).max() / len(study.data)), 2),
            "mask": masked(study, best),
        }
    settings.write(path, json.dumps(done | {"gap": gap(study.cells)}, indent=1))


def looks(study: Study) -> tuple[np.ndarray, np.ndarray]:
    """Of every image: mean and standard deviation of each channel ``[N, 6]``, and its corner's pixels ``[N, M]``."""
    colours, corners = [], []
    for pixels in features.decoded(study.data.paths, (_SIDE, _SIDE)):
        colours.append(np.concatenate([pixels.mean((0, 1)), pixels.std((0, 1))]))
        corners.append(corner(pixels).reshape(-1) / 255)
    return np.array(colours), np.array(corners, np.float32)


def duplicates(study: Study) -> dict[str, Any]:
    """Byte-identical images, near-duplicates, and how many images are tested beside one that was trained on."""
    _, counts = np.unique(np.array(study.data.digests), return_counts=True)
    _, near = np.unique(study.duplicates, return_counts=True)
    return {
        "images": len(study.data),
        "identical": int(counts[counts > 1].sum()),
        "groups": int((near > 1).sum()),
        "in_groups": int(near[near > 1].sum()),
        "leaks": {name: leaks(folds, study.duplicates) for name, folds in study.ground.splits.items()},
    }


def _colour(study: Study, colours: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Accuracy on six numbers: the nearest neighbour, and each classifier with its default setting."""
    found = {"nearest neighbour": _nearest(study, colours, folds)}
    for name in study.settings.classifiers:
        right = np.zeros(len(folds), bool)
        for k in range(int(folds.max()) + 1):
            train, test = np.flatnonzero(folds != k), folds == k
            splits = [(train_, test_) for train_, test_ in _inner(study.data.labels[train])]
            model = make_pipeline(StandardScaler(), classifiers.build(name, study.settings.seed, splits))
            model.fit(colours[train], study.data.labels[train])
            right[test] = model.predict(colours[test]) == study.data.labels[test]
        found[name] = _percent(right)
    return found


def _inner(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    return list(StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels))


def _nearest(study: Study, rows: np.ndarray, folds: np.ndarray) -> float:
    right = np.zeros(len(folds), bool)
    for k in range(int(folds.max()) + 1):
        model = make_pipeline(StandardScaler(), KNeighborsClassifier(1, algorithm="brute"))
        model.fit(rows[folds != k], study.data.labels[folds != k])
        right[folds == k] = model.predict(rows[folds == k]) == study.data.labels[folds == k]
    return _percent(right)


def masked(study: Study, best: Row) -> dict[str, Any]:
    """A pipeline's accuracy with the corner as it is and painted grey: usual setting, no copies."""
    asked, name = study.settings, best["backbone"]
    backbone = backbones.load(name)
    size = asked.size or backbone.input_size
    accuracy: dict[str, dict[str, float]] = {}
    for key, hidden in (("before", False), ("after", True)):
        graph = backbone_graph(
            backbone, study.weights[name], tap_name=best["tap"], input_size=asked.size,
            preprocess=Preprocess(asked.equalize, hidden),
        )  # fmt: skip
        rows = Rows(features.extract(graph, study.data.paths, study.data.digests, size))
        accuracy[key] = {}
        for protocol, folds in study.ground.splits.items():
            heads = evaluate.fold_heads(rows, study.data.labels, folds, study.fit(best))
            given = evaluate.answer(heads, rows.plain, folds).argmax(1)
            accuracy[key][protocol] = _percent(given == study.data.labels)
    return accuracy


def gap(rows: Sequence[Row]) -> dict[str, float]:
    """Points that pipelines score less than under ``random``, by protocol: the median over all of them."""
    by_protocol: dict[str, dict[tuple[Any, ...], float]] = {}
    for row in rows:
        by_protocol.setdefault(row["protocol"], {})[_pipeline(row)] = row["accuracy"]
    flattered = by_protocol.get("random", {})
    return {
        protocol: round(float(np.median([flattered[key] - value for key, value in own.items() if key in flattered])), 2)
        for protocol, own in by_protocol.items()
        if protocol != "random" and any(key in flattered for key in own)
    }


def sentences(found: Mapping[str, Any], best: Row) -> list[str]:
    """The audit, in words that a reader can act on."""
    doubles, protocol = found["duplicates"], best["protocol"]
    bar = found["corner"][protocol]
    before, after = (found["mask"][key][protocol] for key in ("before", "after"))
    leaking = ", ".join(f"{count} under {name}" for name, count in doubles["leaks"].items())
    lines = [
        f"{doubles['identical']} of the {doubles['images']} images are byte for byte the same as another, and "
        f"{doubles['in_groups']} are near-duplicates, in {doubles['groups']} groups. Images tested beside a "
        f"near-duplicate in training: {leaking}. Take the doubles out, or keep them on one side, before "
        "quoting a figure.",
        colour_sentence(found, best),
        f"The corner with the scale bar alone scores {bar:.1f} %, where always naming the largest class scores "
        f"{found['largest_class']:.1f} %: its style tells of the class. Painting it grey takes the best pipeline, "
        f"fitted without changed copies, from {before:.2f} to {after:.2f} % under {protocol}: {_rests(before - after)}",
    ]
    for name, points in found["gap"].items():
        advice = f"quote {name}, not random." if points > _LITTLE else "little."
        lines.append(f"Half of the pipelines lose {points:.1f} points or more from random to {name}: {advice}")
    return lines


def colour_sentence(found: Mapping[str, Any], best: Row) -> str:
    """What colour alone scores, in words that a reader can act on."""
    alone, reached = max(found["colour"][best["protocol"]].values()), best["accuracy"]
    said = f"Colour alone, six numbers an image, scores up to {alone:.1f} % under {best['protocol']}; "
    if reached <= alone:
        return said + f"the best pipeline, at {reached:.1f} %, adds nothing to it."
    return said + (
        f"the best pipeline {reached:.1f} %. Only the {reached - alone:.1f} points between them cannot be had from "
        "colour. On slides of another stain, expect to lose what colour gave."
    )


def _rests(lost: float) -> str:
    if lost > _LITTLE:
        return "it does rest on the bar. Use --mask-corner."
    return "it does not rest on the bar, and --mask-corner is free."


def _pipeline(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("backbone", "tap", "selector", "classifier"))


def _percent(right: np.ndarray) -> float:
    return round(100 * float(right.mean()), 2)
