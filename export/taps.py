"""Where to take features: every tap of a backbone, scored by accuracy and by time.

One graph with all taps gives all features in one pass. `tap_choice` says what a tap is worth; the fastest one within a
tolerance of the best is chosen. Then a second, earlier tap is tried beside it: its feature map is computed anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from edge_all import intervals
from edge_all.errors import EdgeAllError
from edge_all.intervals import Units
from edge_all.progress import Progress, split
from edge_all.record import TapCandidate, TapTable

from . import features
from .backbones import STD, Backbone, places
from .dataset import Dataset, augment, looks
from .features import Rows, Wanted
from .graph import edit, timing
from .graph.build import backbone_graph
from .graph.names import FEATURES, IMAGE
from .graph.preprocess import Preprocess
from .graph.weights import Weights
from .head import evaluate, robustness
from .head.fit import HeadSpec
from .recipe import Conditions
from .tap_choice import Candidate, pick

AUTO = "auto"

_COPIES = 1  # changed copies of each image that a tap is scored with; the head that ships sees as many as asked for
_SECOND = 4  # earlier taps that are tried beside the chosen one
_LEAST_GAIN = 0.1  # percentage points that a second tap must add
_MOST_TIME = 1.1  # times the time of the chosen tap alone that both may take


@dataclass(frozen=True)
class Search:
    """What taps are compared with.

    Attributes:
        backbone: Whose taps.
        weights: Its weights.
        data: The training images.
        folds: ``int64 [N]``, each image's fold under `protocol`.
        size: Height and width of the input, in pixels.
        preprocess: What is done to an image before it is normalised.
        spec: What heads are made of.
        augmented: Whether heads are trained on changed copies too.
        target: Whose engine time is measured in.
        protocol: The split protocol that taps are compared under.
        units: What the intervals of the accuracies are resampled over.
    """

    backbone: Backbone
    weights: Weights
    data: Dataset
    folds: np.ndarray
    size: tuple[int, int]
    preprocess: Preprocess
    spec: HeadSpec
    augmented: bool
    target: str
    units: Units
    protocol: str = "block"

    @property
    def tried(self) -> np.ndarray:
        """Numbers of the images that the battery is run on, ``int64 [M]``."""
        return robustness.chosen_images(self.data)

    @cached_property
    def looks(self) -> np.ndarray:
        """The look of each image, ``int64 [N]``."""
        return looks(self.data, seed=self.spec.seed)

    @property
    def all_images(self) -> tuple[np.ndarray, np.ndarray]:
        """All N images, and all M of the battery: ``bool [N]`` and ``bool [M]``."""
        return np.ones(len(self.data), bool), np.ones(len(self.tried), bool)


@dataclass(frozen=True)
class Pooled:
    """The features of all taps, pooled from one graph.

    Attributes:
        graph: The graph.
        columns: Numbers of each tap's features, ``int64 [F]`` by tap.
        rows: Features of all images and their copies.
        changed: Features of the battery's images under each change, ``float32 [M, C]`` by change.
    """

    graph: onnx.ModelProto
    columns: Mapping[str, np.ndarray]
    rows: Rows
    changed: Mapping[str, np.ndarray]


def choose(search: Search, prefer: str, progress: Progress) -> tuple[str, TapTable]:
    """Choose a tap, or two.

    Args:
        search: What to compare them with.
        prefer: A key of `tap_choice.TOLERANCE`.
        progress: Counts work: images through the backbone, heads fitted.

    Returns:
        The name of the place, and the table of all that were scored.

    Raises:
        EdgeAllError: No tap has as many features as asked for.
    """
    taps = search.backbone.taps
    least = search.spec.count or 1
    single = {tap.name + STD: [tap.name] for tap in taps if 2 * tap.channels >= least}
    if not single:
        raise EdgeAllError(
            f"--features {least} was given, and no tap of {search.backbone.name} has as many: "
            f"give at most {2 * max(tap.channels for tap in taps)}"
        )
    extracting, scoring_single, scoring_pairs = split(progress, _work(search, len(single)))
    pooled = _features(search, extracting)
    times = timing.times(search.target, [_only(pooled, parts) for parts in single.values()])
    singles = _scored(search, pooled, single, times, scoring_single)
    first = pick(singles, prefer, *search.all_images)
    pairs = _pairs(search, first) if prefer != "speed" else {}
    if not pairs:
        return first.name, _table(search, prefer, first, singles, singles)
    graphs = [_only(pooled, parts) for parts in (single[first.name], *pairs.values())]
    alone, *times = timing.times(search.target, graphs)
    comparable = [first.ms * ms / alone for ms in times]  # of another run: only the ratio is comparable
    doubles = _scored(search, pooled, pairs, comparable, scoring_pairs)
    chosen = _better(first, doubles, prefer, search)
    return chosen.name, _table(search, prefer, chosen, [*singles, *doubles], singles)


def _pairs(search: Search, first: Candidate) -> dict[str, list[str]]:
    """By its name, the taps of each pair of `first` and an earlier tap: at most `_SECOND`, evenly spread over all."""
    order, single = [tap.name for tap in search.backbone.taps], first.name.removesuffix(STD)
    earlier = order[: order.index(single)]
    spread = np.unique(np.linspace(0, len(earlier) - 1, _SECOND).astype(int)) if earlier else ()
    return {f"{earlier[i]}{STD}+{first.name}": [earlier[i], single] for i in spread}


def _better(first: Candidate, pairs: Sequence[Candidate], prefer: str, search: Search) -> Candidate:
    """The best pair, if it gains enough over the single tap and costs little time; else the single tap."""
    best = max(pairs, key=lambda c: c.score(prefer, *search.all_images))
    gain = best.score(prefer, *search.all_images) - first.score(prefer, *search.all_images)
    return best if gain >= _LEAST_GAIN and best.ms <= _MOST_TIME * first.ms else first


_MACS_PER_SECOND, _DECODE_SECONDS, _FIT_SECONDS = 5e10, 1e-3, 2e-3
"""Rough rates, from which the parts of the work get their weights: FP32 on two cores, and times for one image."""


def _work(search: Search, singles: int) -> list[float]:
    """Seconds, roughly, that extraction, the scoring of single taps and that of pairs take."""
    copies = 1 + (_COPIES if search.augmented else 0)
    images = len(search.data) * copies + len(search.tried) * len(augment.BATTERY)
    extraction = images * (_DECODE_SECONDS + search.backbone.taps[-1].macs / _MACS_PER_SECOND)
    fit = len(search.data) * copies * _FIT_SECONDS
    return [extraction, singles * fit, _SECOND * fit]


def _features(search: Search, progress: Progress) -> Pooled:
    data, taps = search.data, search.backbone.taps
    graph = backbone_graph(
        search.backbone,
        search.weights,
        tap_name="+".join(tap.name + STD for tap in taps),
        input_size=search.size,
        preprocess=search.preprocess,
    )
    starts = np.cumsum([0, *(2 * tap.channels for tap in taps)])
    columns = {tap.name: np.arange(starts[i], starts[i + 1]) for i, tap in enumerate(taps)}
    conditions = Conditions(augment=_COPIES if search.augmented else 0, seed=search.spec.seed)
    images, battery = split(progress, [len(data) * (1 + conditions.augment), len(search.tried) * len(augment.BATTERY)])
    rows = features.training_rows(graph, data, search.size, conditions, images)
    tried = data.take(search.tried)
    (changed,) = robustness.extract([Wanted(graph)], tried, search.size, battery)
    return Pooled(graph, columns, rows, changed)


def _scored(
    search: Search,
    pooled: Pooled,
    candidates: Mapping[str, Sequence[str]],
    times: Sequence[float],
    progress: Progress,
) -> list[Candidate]:
    """Fit heads on the features of each candidate's taps, and evaluate them."""
    labels, folds, tried, looks = search.data.labels, search.folds, search.tried, search.looks
    scored = []
    for (name, taps), ms in zip(candidates.items(), times, strict=True):
        columns = np.concatenate([pooled.columns[tap] for tap in taps])
        rows = pooled.rows.take(columns)
        heads = evaluate.fold_heads(rows, labels, folds, search.spec)
        correct = evaluate.answer(heads, rows.plain, folds).argmax(1) == labels
        changed = {
            change: evaluate.answer(heads, pictures[:, columns], folds[tried]).argmax(1) == labels[tried]
            for change, pictures in pooled.changed.items()
        }
        blind = evaluate.fold_heads(rows, labels, looks, search.spec)
        unseen = evaluate.answer(blind, rows.plain, looks).argmax(1) == labels
        macs = max(place.tap.macs for place in places(search.backbone, name))
        scored.append(Candidate(name, len(columns), macs, ms, labels, correct, unseen, changed))
        progress(len(scored), len(candidates))
    return scored


def _only(pooled: Pooled, taps: Sequence[str]) -> onnx.ModelProto:
    """The graph up to some of the taps, their maps pooled and the rest removed."""
    order = list(pooled.columns)
    concat = next(node for node in pooled.graph.graph.node if node.output[0] == FEATURES)
    ends = [piece for tap in taps for piece in concat.input[2 * order.index(tap) : 2 * order.index(tap) + 2]]
    return edit.extract(pooled.graph, [IMAGE], ends)


def _table(
    search: Search, prefer: str, chosen: Candidate, candidates: Sequence[Candidate], single: Sequence[Candidate]
) -> TapTable:
    """What was scored, and what would be chosen without the images of each fold."""
    tried, best = search.tried, max(candidates, key=lambda c: c.clean(search.all_images[0]))
    records: list[TapCandidate] = [
        {
            "tap": c.name,
            "features": c.features,
            "macs": c.macs,
            "ms": round(c.ms, 3),
            **robustness.table(c.correct[tried], c.changed),
            "accuracy": round(c.clean(search.all_images[0]), 2),
            "interval": intervals.of_share(c.correct, search.units),
            "told_from_best": intervals.told_apart(best.correct, c.correct, search.units),
            "transfer": round(c.transfer(search.all_images[0]), 2),
        }
        for c in candidates
    ]
    without = [pick(single, prefer, search.folds != k, search.folds[tried] != k).name for k in range(5)]
    return {
        "prefer": prefer,
        "chosen": chosen.name,
        "first_choice_without_fold": without,
        "protocol": search.protocol,
        "images": len(search.data),
        "battery_images": len(tried),
        "target": search.target,
        "candidates": records,
    }


def sentence(table: TapTable) -> str:
    """What was chosen, for the user."""
    chosen = next(c for c in table["candidates"] if c["tap"] == table["chosen"])
    return (
        f"tap {chosen['tap']} chosen from {len(table['candidates'])} ({table['prefer']}): "
        f"{chosen['accuracy']:.1f} % under {table['protocol']}, {chosen['transfer']:.1f} % on looks left out, "
        f"{chosen['worst']:.1f} % under the worst change ({chosen['worst_change']}), {chosen['ms']:.2f} ms in FP32"
    )
