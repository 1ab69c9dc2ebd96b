"""What is left of the accuracy when the slide is turned, the lamp is dimmed or the focus is lost: `augment.BATTERY`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all.progress import Progress, ignore, split
from edge_all.record import RobustnessTable

from .. import features
from ..dataset import Dataset, spread
from ..dataset.augment import BATTERY
from . import evaluate
from .fit import Head
from .reference import Reference

IMAGES = 520
"""Images that the battery is run on, spread over the data set."""


def chosen_images(data: Dataset) -> np.ndarray:
    """Numbers of the images that the battery is run on, ``int64 [M]``."""
    return spread(np.arange(len(data)), IMAGES)


def extract(
    graph: onnx.ModelProto,
    data: Dataset,
    size: tuple[int, int],
    *,
    target: str = "openvino",
    progress: Progress = ignore,
) -> dict[str, np.ndarray]:
    """Features of all images of `data` under each change.

    Returns:
        ``float32 [M, C]`` by the change's name.
    """
    parts = split(progress, [1.0] * len(BATTERY))
    return {
        change.name: features.extract(graph, data, size, target=target, change=change, progress=part)
        for change, part in zip(BATTERY, parts, strict=True)
    }


def table(clean: np.ndarray, changed: Mapping[str, np.ndarray]) -> RobustnessTable:
    """Accuracy in percent on the images as they are and under each change, and the worst of them.

    Args:
        clean: ``bool [M]``: whose label is right.
        changed: Likewise, by change.
    """
    accuracy = {name: evaluate.percent(right.mean(), 2) for name, right in changed.items()}
    worst = min(accuracy, key=lambda name: accuracy[name])
    return {
        "clean": evaluate.percent(clean.mean(), 2),
        "worst": accuracy[worst],
        "worst_change": worst,
        "changes": accuracy,
    }


def fp32(reference: Reference, progress: Progress = ignore) -> RobustnessTable:
    """The FP32 heads under the battery, each image by the head of its own fold."""
    images = chosen_images(reference.data)
    data = reference.data.take(images)
    protocol = reference.headline
    folds = reference.splits[protocol][images]
    changed = extract(reference.graph, data, reference.size, progress=progress)
    heads = reference.heads[protocol]
    right = {name: evaluate.answer(heads, rows, folds).argmax(1) == data.labels for name, rows in changed.items()}
    return table(reference.answers[protocol][images].argmax(1) == data.labels, right)


@dataclass(frozen=True)
class Answering:
    """A quantized backbone with its heads, and the images it is evaluated on. It was calibrated on none of them.

    Attributes:
        graph: The backbone.
        images: ``bool [N]``.
        heads: A head for each fold of the headline protocol.
        rows: ``float32 [N, C]``: features of the images as they are; only those of `images` are read.
    """

    graph: onnx.ModelProto
    images: np.ndarray
    heads: Sequence[Head]
    rows: np.ndarray


def int8(target: str, reference: Reference, sides: Sequence[Answering], progress: Progress = ignore) -> RobustnessTable:
    """Quantized backbones with their heads under the battery.

    Args:
        target: Whose engine runs the graphs.
        reference: The FP32 pipeline.
        sides: Which graph answers for which images.
        progress: Counts images.
    """
    data, folds = reference.data, reference.splits[reference.headline]
    tried = chosen_images(data)
    clean = np.zeros(len(data), bool)
    changed = {change.name: np.zeros(len(data), bool) for change in BATTERY}
    parts = split(progress, [1.0 + float(side.images[tried].sum()) for side in sides])
    for side, part in zip(sides, parts, strict=True):
        images = tried[side.images[tried]]
        labels = data.labels[images]
        clean[images] = evaluate.answer(side.heads, side.rows[images], folds[images]).argmax(1) == labels
        by_change = extract(side.graph, data.take(images), reference.size, target=target, progress=part)
        for name, rows in by_change.items():
            changed[name][images] = evaluate.answer(side.heads, rows, folds[images]).argmax(1) == labels
    return table(clean[tried], {name: right[tried] for name, right in changed.items()})
