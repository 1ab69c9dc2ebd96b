"""Where to take features: every tap of a backbone scored by what its features are worth and what they cost.

One graph with all taps gives all features in one pass. A tap is worth the mean of two accuracies under ``block``: of
the images as they are, and under the worst change of `augment.BATTERY`. The cheapest tap within a tolerance of the best
is taken; then a second, earlier place may be pooled beside it, whose map is computed anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError

from . import features
from .backbones import STD, Backbone, places
from .dataset import Dataset, augment
from .graph import timing
from .graph.build import backbone_graph
from .graph.preprocess import Preprocess
from .graph.weights import Weights
from .head import evaluate, robustness
from .head.evaluate import Fit, Rows

AUTO = "auto"

TOLERANCE: Mapping[str, float] = {"accuracy": 0.0, "balanced": 0.25, "speed": 1.0}
"""Points that the chosen tap may be worth less than the best one, by what is preferred."""

_COPIES = 1  # of each image, to score a tap with; the head that ships sees as many as asked for
_SECOND = 4  # earlier places that are tried beside the chosen one
_GAIN = 0.1  # points that a second place has to add
_TIME = 1.1  # and the most that it may make of the time


@dataclass(frozen=True)
class Candidate:
    """A place, or two, and how it did.

    Attributes:
        name: As in `edge_all.export.backbones.places`.
        features: How many there are.
        macs: Multiply-accumulates up to there, at the backbone's own input size.
        ms: Median time of its FP32 graph for one image, on this machine.
        correct: ``bool [N]``: each image's label as it is, by the head of its fold.
        changed: ``bool [M]`` by change, of the images of the battery.
    """

    name: str
    features: int
    macs: int
    ms: float
    correct: np.ndarray
    changed: Mapping[str, np.ndarray]

    def clean(self, images: np.ndarray) -> float:
        """Accuracy in percent on these of the N images."""
        return 100 * float(self.correct[images].mean())

    def worst(self, tried: np.ndarray) -> float:
        """Accuracy in percent under the worst change, on these of the M images."""
        return 100 * min(float(right[tried].mean()) for right in self.changed.values())

    def worth(self, images: np.ndarray, tried: np.ndarray) -> float:
        return (self.clean(images) + self.worst(tried)) / 2


@dataclass(frozen=True)
class Search:
    """What a tap is looked for with.

    Attributes:
        backbone: Whose.
        weights: Its weights.
        data: The training images.
        folds: ``int64 [N]``, each image's under ``block``.
        size: Height and width of the input.
        preprocess: What is done to the image before it is normalised.
        fit: Fits a head.
        least: Features that a place must have.
        augmented: Heads are to be trained on copies.
        seed: Of the copies.
        target: Where time is measured.
    """

    backbone: Backbone
    weights: Weights
    data: Dataset
    folds: np.ndarray
    size: tuple[int, int]
    preprocess: Preprocess
    fit: Fit
    least: int
    augmented: bool
    seed: int
    target: str


def choose(search: Search, prefer: str, progress: Callable[[int, int], None]) -> tuple[str, dict[str, Any]]:
    """Choose a tap.

    Args:
        search: What to look for it with.
        prefer: A key of `TOLERANCE`.
        progress: Called with (done, total).

    Returns:
        The place's name, and the table of all that were scored.

    Raises:
        EdgeAllError: No tap has as many features as asked for.
    """
    taps = search.backbone.taps
    whole = "+".join(tap.name + STD for tap in taps)
    graph = backbone_graph(
        search.backbone, search.weights, tap_name=whole, input_size=search.size, preprocess=search.preprocess
    )
    rows, changed = _features(search, graph, progress)
    starts = np.cumsum([0, *(2 * tap.channels for tap in taps)])
    columns = {tap.name: np.arange(starts[i], starts[i + 1]) for i, tap in enumerate(taps)}
    single = {tap.name + STD: [tap.name] for tap in taps if 2 * tap.channels >= search.least}
    if not single:
        raise EdgeAllError(
            f"--features {search.least} was given, and no tap of {search.backbone.name} has as many: "
            f"give at most {2 * max(tap.channels for tap in taps)}"
        )
    times = timing.times(search.target, [_only(graph, parts, columns) for parts in single.values()])
    found = _scored(search, single, times, columns, rows, changed)
    everything = np.ones(len(search.data), bool), np.ones(len(robustness.numbers(search.data)), bool)
    first = pick(found, prefer, *everything)
    order = [tap.name for tap in taps]
    earlier = order[: order.index(single[first.name][0])]
    chosen = [earlier[i] for i in np.unique(np.linspace(0, len(earlier) - 1, _SECOND).astype(int))] if earlier else []
    pairs = {f"{name}{STD}+{first.name}": [name, *single[first.name]] for name in chosen}
    second: list[Candidate] = []
    if pairs and prefer != "speed":
        graphs = [_only(graph, parts, columns) for parts in (single[first.name], *pairs.values())]
        alone, *times = timing.times(search.target, graphs)
        in_step = [first.ms * ms / alone for ms in times]  # of another run: what counts is the ratio
        second = _scored(search, pairs, in_step, columns, rows, changed)
    best = max(second, key=lambda c: c.worth(*everything), default=first)
    gain = best.worth(*everything) - first.worth(*everything)
    last = best if gain >= _GAIN and best.ms <= _TIME * first.ms else first
    return last.name, _table(search, prefer, last, [*found, *second], found)


def pick(found: Sequence[Candidate], prefer: str, images: np.ndarray, tried: np.ndarray) -> Candidate:
    """The cheapest that is worth nearly as much as the best.

    Args:
        found: To choose from.
        prefer: A key of `TOLERANCE`.
        images: ``bool [N]``: those that count.
        tried: ``bool [M]``: likewise of the battery.
    """
    most = max(candidate.worth(images, tried) for candidate in found)
    enough = [c for c in found if c.worth(images, tried) >= most - TOLERANCE[prefer] - 1e-9]
    return min(enough, key=lambda c: c.ms)


def _features(
    search: Search, graph: onnx.ModelProto, progress: Callable[[int, int], None]
) -> tuple[Rows, dict[str, np.ndarray]]:
    data = search.data
    plain = features.extract(graph, data.paths, data.digests, search.size, progress=progress)
    copies = [
        features.extract(graph, data.paths, data.digests, search.size, change=copy, progress=progress)
        for copy in augment.copies(_COPIES if search.augmented else 0, search.seed)
    ]
    tried = data.subset(np.isin(np.arange(len(data)), robustness.numbers(data)))
    return Rows(plain, tuple(copies)), robustness.extract(graph, tried, search.size, progress=progress)


def _scored(
    search: Search,
    candidates: Mapping[str, Sequence[str]],
    times: Sequence[float],
    columns: Mapping[str, np.ndarray],
    rows: Rows,
    changed: Mapping[str, np.ndarray],
) -> list[Candidate]:
    found = []
    labels, folds, tried = search.data.labels, search.folds, robustness.numbers(search.data)
    for (name, parts), ms in zip(candidates.items(), times, strict=True):
        own = np.concatenate([columns[part] for part in parts])
        heads = evaluate.fold_heads(rows.take(own), labels, folds, search.fit)
        right = evaluate.answer(heads, rows.plain[:, own], folds).argmax(1) == labels
        answers = {
            change: evaluate.answer(heads, given[:, own], folds[tried]).argmax(1) == labels[tried]
            for change, given in changed.items()
        }
        macs = max(place.tap.macs for place in places(search.backbone, name))
        found.append(Candidate(name, len(own), macs, ms, right, answers))
    return found


def _only(graph: onnx.ModelProto, parts: Sequence[str], taps: Iterable[str]) -> onnx.ModelProto:
    """The graph of all `taps` up to some of them, their maps pooled and the rest gone."""
    order = list(taps)
    numbers = [order.index(part) for part in parts]
    concat = next(node for node in graph.graph.node if node.output[0] == "features")
    ends = [piece for number in numbers for piece in concat.input[2 * number : 2 * number + 2]]
    return onnx.utils.Extractor(graph).extract_model(["image"], ends)


def _table(
    search: Search, prefer: str, chosen: Candidate, candidates: Sequence[Candidate], single: Sequence[Candidate]
) -> dict[str, Any]:
    """What was scored, and what would have been chosen with each fold of images left out of the choice."""
    images = np.ones(len(search.data), bool)
    tried = robustness.numbers(search.data)
    records = [
        {
            "tap": c.name,
            "features": c.features,
            "macs": c.macs,
            "ms": round(c.ms, 3),
            **robustness.table(c.correct[tried], c.changed),
            "accuracy": round(c.clean(images), 2),
        }
        for c in candidates
    ]
    without = [pick(single, prefer, search.folds != k, search.folds[tried] != k).name for k in range(5)]
    return {
        "prefer": prefer,
        "chosen": chosen.name,
        "first_choice_without_fold": without,
        "protocol": robustness.PROTOCOL,
        "images": len(search.data),
        "battery_images": len(tried),
        "target": search.target,
        "candidates": records,
    }


def sentence(table: Mapping[str, Any]) -> str:
    """What was chosen, for the user."""
    chosen = next(c for c in table["candidates"] if c["tap"] == table["chosen"])
    return (
        f"tap {chosen['tap']} of {len(table['candidates'])} compared, preferring {table['prefer']}: "
        f"{chosen['accuracy']:.1f} % under block, {chosen['worst']:.1f} % at worst ({chosen['worst_change']}), "
        f"{chosen['ms']:.2f} ms in FP32"
    )
