"""Where to take features: every tap of a backbone, scored by accuracy and by time.

`tap_features` gives all features in one pass. `tap_choice` says what a tap is worth; the fastest one within a
tolerance of the best is chosen. Then a second, earlier tap is tried beside it: its feature map is computed anyway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from edge_all import intervals
from edge_all.errors import EdgeAllError
from edge_all.progress import Progress, split
from edge_all.record import TapCandidate, TapTable

from . import features
from .backbones import STD, places
from .dataset import augment
from .features import Rows
from .graph import timing
from .head import evaluate, robustness
from .tap_choice import Candidate, pick
from .tap_features import Pooled, Search, extract

AUTO = "auto"

_SECOND = 4  # earlier taps that are tried beside the chosen one
_LEAST_GAIN = 0.1  # percentage points that a second tap must add
_MOST_TIME = 1.1  # times the time of the chosen tap alone that both may take


@dataclass(frozen=True)
class Choice:
    """A place that was chosen.

    Attributes:
        name: Of the place.
        table: All that were scored.
        search: What they were compared with.
        rows: The place's features of all images and their copies.
        changed: Its features of the battery's images under each change, ``float32 [M, C]`` by change.
    """

    name: str
    table: TapTable
    search: Search
    rows: Rows
    changed: Mapping[str, np.ndarray]

    def keep(self, graph: onnx.ModelProto) -> None:
        """Let the graph of this place alone have the features that it would give."""
        data, size = self.search.data, self.search.size
        copies = augment.copies(len(self.rows.copies), self.search.spec.seed)
        features.keep(graph, data, size, zip([None, *copies], [self.rows.plain, *self.rows.copies], strict=True))
        changed = [(change, self.changed[change.name]) for change in augment.BATTERY]
        features.keep(graph, data.take(self.search.tried), size, changed)


def choose(search: Search, prefer: str, progress: Progress) -> Choice:
    """Choose a tap, or two.

    Args:
        search: What to compare them with.
        prefer: A key of `tap_choice.TOLERANCE`.
        progress: Counts work: images through the backbone, heads fitted.

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
    pooled = extract(search, extracting)
    times = timing.times(search.target, [pooled.graph_of(parts) for parts in single.values()])
    singles = _scored(search, pooled, single, times, scoring_single)
    first = pick(singles, prefer, *search.all_images)
    pairs = _pairs(search, first) if prefer != "speed" else {}
    if not pairs:
        return _choice(search, pooled, single, _table(search, prefer, first, singles, singles))
    graphs = [pooled.graph_of(parts) for parts in (single[first.name], *pairs.values())]
    alone, *times = timing.times(search.target, graphs)
    comparable = [first.ms * ms / alone for ms in times]  # of another run: only the ratio is comparable
    doubles = _scored(search, pooled, pairs, comparable, scoring_pairs)
    chosen = _better(first, doubles, prefer, search)
    return _choice(search, pooled, single | pairs, _table(search, prefer, chosen, [*singles, *doubles], singles))


def _choice(search: Search, pooled: Pooled, places: Mapping[str, Sequence[str]], table: TapTable) -> Choice:
    """What was chosen of places, each of some taps."""
    name = table["chosen"]
    columns = pooled.of(places[name])
    changed = {change: rows[:, columns] for change, rows in pooled.changed.items()}
    return Choice(name, table, search, pooled.rows.take(columns), changed)


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
    copies = 1 + search.copies
    images = len(search.data) * copies + len(search.tried) * len(augment.BATTERY)
    extraction = images * (_DECODE_SECONDS + search.backbone.taps[-1].macs / _MACS_PER_SECOND)
    fit = len(search.data) * copies * _FIT_SECONDS
    return [extraction, singles * fit, _SECOND * fit]


def _scored(
    search: Search,
    pooled: Pooled,
    candidates: Mapping[str, Sequence[str]],
    times: Sequence[float],
    progress: Progress,
) -> list[Candidate]:
    """Fit heads on the features of each candidate's taps, and evaluate them."""
    labels, folds, tried, looks = search.data.labels, search.folds, search.tried, search.looks
    spec = replace(search.spec, labels_only=True)
    scored = []
    for (name, taps), ms in zip(candidates.items(), times, strict=True):
        columns = pooled.of(taps)
        rows = pooled.rows.take(columns)
        heads = evaluate.fold_heads(rows, labels, folds, spec)
        correct = evaluate.answer(heads, rows.plain, folds).argmax(1) == labels
        changed = {
            change: evaluate.answer(heads, pictures[:, columns], folds[tried]).argmax(1) == labels[tried]
            for change, pictures in pooled.changed.items()
        }
        blind = evaluate.fold_heads(rows, labels, looks, spec)
        unseen = evaluate.answer(blind, rows.plain, looks).argmax(1) == labels
        macs = max(place.tap.macs for place in places(search.backbone, name))
        scored.append(Candidate(name, len(columns), macs, ms, labels, correct, unseen, changed))
        progress(len(scored), len(candidates))
    return scored


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
