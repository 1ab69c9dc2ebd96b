"""What is left of the accuracy when the slide is turned, the lamp is dimmed or the focus is lost: `augment.BATTERY`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all.progress import Progress, ignore
from edge_all.record import RobustnessTable

from .. import features
from ..dataset import Dataset, spread
from ..dataset.augment import BATTERY
from ..dataset.changes import Change
from ..features import Wanted
from . import evaluate
from .fit import Head
from .reference import Reference

IMAGES = 520
"""Images that the battery is run on, spread over the data set."""


def chosen_images(data: Dataset) -> np.ndarray:
    """Numbers of the images that the battery is run on, ``int64 [M]``."""
    return spread(np.arange(len(data)), IMAGES)


def extract(
    wanted: Sequence[Wanted],
    data: Dataset,
    size: tuple[int, int],
    progress: Progress = ignore,
    changes: Sequence[Change] = BATTERY,
) -> list[dict[str, np.ndarray]]:
    """Features of the images of `data` under each change, by each graph.

    Returns:
        ``float32 [M, C]`` by the change's name, for each graph.
    """
    of_graphs = features.extract_each(wanted, data, size, changes, progress)
    return [{change.name: rows for change, rows in zip(changes, of, strict=True)} for of in of_graphs]


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


@dataclass(frozen=True)
class Answering:
    """A backbone with its heads, and the images it is evaluated on. It was calibrated on none of them.

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


def measure(
    reference: Reference, quantized: Mapping[str, Sequence[Answering]], progress: Progress = ignore
) -> tuple[RobustnessTable, dict[str, RobustnessTable]]:
    """The pipelines under the battery, each image answered by the head of its own fold.

    Args:
        reference: The FP32 pipeline.
        quantized: INT8 backbones by target, whose engine runs them: which of them answers for which images.
        progress: Counts changed images.

    Returns:
        Of FP32, and of INT8 by target.
    """
    every = np.ones(len(reference.data), bool)
    exact = Answering(reference.graph, every, reference.heads[reference.headline], reference.rows.plain)
    sides = [(None, exact), *((target, side) for target, of in quantized.items() for side in of)]
    tried = chosen_images(reference.data)
    wanted = [Wanted(side.graph, target or "openvino", side.images[tried]) for target, side in sides]
    by_side = extract(wanted, reference.data.take(tried), reference.size, progress)
    changed = [(target, side, rows) for (target, side), rows in zip(sides, by_side, strict=True)]

    def of_target(wanted: str | None) -> RobustnessTable:
        return _table(reference, tried, [(side, rows) for target, side, rows in changed if target == wanted])

    return of_target(None), {target: of_target(target) for target in quantized}


def _table(
    reference: Reference, tried: np.ndarray, answering: Sequence[tuple[Answering, Mapping[str, np.ndarray]]]
) -> RobustnessTable:
    """The table of what answers for all images that were tried.

    Args:
        reference: The FP32 pipeline.
        tried: Numbers of these images.
        answering: What answers, and its features of its share of them under each change.
    """
    labels, folds = reference.data.labels, reference.splits[reference.headline]
    clean = np.zeros(len(labels), bool)
    right = {change.name: np.zeros(len(labels), bool) for change in BATTERY}
    for side, by_change in answering:
        images = tried[side.images[tried]]
        for rows, into in ((side.rows[images], clean), *((by_change[name], into) for name, into in right.items())):
            into[images] = evaluate.answer(side.heads, rows, folds[images]).argmax(1) == labels[images]
    return table(clean[tried], {name: of_change[tried] for name, of_change in right.items()})
