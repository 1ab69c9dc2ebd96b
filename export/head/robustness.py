"""What is left of the accuracy when the slide is turned, the lamp is dimmed or the focus is lost: `augment.BATTERY`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from .. import features
from ..dataset import Dataset
from ..dataset.augment import BATTERY
from ..quantize import calibration
from ..quantize.search import Attempt, Case
from . import evaluate

IMAGES = 520
"""Images that the battery is run on, spread over the data set."""

PROTOCOL = "block"


def numbers(data: Dataset) -> np.ndarray:
    """Which images the battery is run on, ``int64 [M]``."""
    return calibration.spread(np.arange(len(data)), IMAGES)


def extract(
    graph: onnx.ModelProto,
    data: Dataset,
    size: tuple[int, int],
    *,
    target: str = "openvino",
    progress: features.Progress | None = None,
) -> dict[str, np.ndarray]:
    """Features of all of some images under each change.

    Returns:
        ``float32 [M, C]`` by the change's name.
    """
    found = {}
    for done, change in enumerate(BATTERY):
        if progress:
            progress(done, len(BATTERY))
        found[change.name] = features.extract(graph, data.paths, data.digests, size, target=target, change=change)
    return found


def table(clean: np.ndarray, changed: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Accuracy in percent, as they are and under each change, and the worst of them.

    Args:
        clean: ``bool [M]``: whose label is right.
        changed: Likewise, by change.
    """
    accuracy = {name: round(100 * float(right.mean()), 2) for name, right in changed.items()}
    worst = min(accuracy, key=lambda name: accuracy[name])
    return {
        "clean": round(100 * float(clean.mean()), 2),
        "worst": accuracy[worst],
        "worst_change": worst,
        "changes": accuracy,
    }


def fp32(case: Case, progress: features.Progress | None = None) -> dict[str, Any]:
    """The FP32 heads under the battery, each image by the head of its own fold."""
    exact = case.exact
    tried = numbers(exact.data)
    data = exact.data.subset(np.isin(np.arange(len(exact.data)), tried))
    folds = exact.splits[PROTOCOL][tried]
    changed = extract(case.graph, data, case.size, progress=progress)
    heads = exact.heads[PROTOCOL]
    right = {name: evaluate.answer(heads, rows, folds).argmax(1) == data.labels for name, rows in changed.items()}
    return table(exact.answers[PROTOCOL][tried].argmax(1) == data.labels, right)


def int8(target: str, attempt: Attempt, case: Case) -> dict[str, Any]:
    """An INT8 backbone with its heads under the battery, no image by a graph that was calibrated on it."""
    exact = case.exact
    tried = np.isin(np.arange(len(exact.data)), numbers(exact.data))
    right = {name: np.zeros(len(exact.data), bool) for name in ("clean", *(change.name for change in BATTERY))}
    sides = zip(attempt.pair.graphs, attempt.pair.judged, attempt.trained.heads, strict=True)
    for graph, judged, heads in sides:
        own = judged & tried
        labels, folds = exact.data.labels[own], exact.splits[PROTOCOL][own]
        changed = {"clean": attempt.pair.rows[own]}
        changed |= extract(graph, exact.data.subset(own), case.size, target=target)
        for name, rows in changed.items():
            right[name][own] = evaluate.answer(heads[PROTOCOL], rows, folds).argmax(1) == labels
    clean = right.pop("clean")[tried]
    return table(clean, {name: given[tried] for name, given in right.items()})
