"""Where to take features, and from how large a picture: every tap of a backbone, scored by accuracy and by time.

`pooled` gives all features in one pass. `candidates` says what a tap is worth; the fastest one within a tolerance of
the best is chosen, if pictures that are no fields look strange there (`status`). Then a second, earlier tap is tried
beside it: its feature map is computed anyway. Then smaller inputs are tried (`sizes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from edge_all import intervals
from edge_all.errors import EdgeAllError
from edge_all.progress import Progress, split
from edge_all.record import TapCandidate, TapTable

from .. import features
from ..backbones import STD
from ..dataset import augment
from ..features import Rows
from ..graph import timing
from ..head import robustness
from . import sizes
from .candidates import Candidate, complete, scored, settle
from .pooled import Pooled, Search, extract, work
from .sizes import Sized, Tried
from .status import Status

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
        search: What it was compared with, at the size of the input that was chosen.
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
    """Choose a tap, or two, and the size of the input.

    Args:
        search: What to compare them with.
        prefer: A key of `candidates.TOLERANCE`.
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
    extracting, scoring_single, completing, scoring_pairs, sizing = split(progress, _work(search, len(single)))
    pooled = extract(search, extracting)
    status = Status(search, pooled)
    times = timing.times(search.target, [pooled.graph_of(parts) for parts in single.values()])
    singles = scored(search, pooled, single, times, scoring_single)

    def settled(left: Sequence[Candidate], images: np.ndarray, tried: np.ndarray) -> Candidate:
        return settle(left, prefer, images, tried, lambda c: complete(search, pooled, single, c, completing))

    first = status.best(singles, lambda left: settled(left, *search.all_images))
    without = [settled(singles, search.folds != k, search.folds[search.tried] != k).name for k in range(5)]
    pairs = _pairs(search, first) if prefer != "speed" else {}
    doubles = _scored_pairs(search, pooled, first, pairs, scoring_pairs) if pairs else []
    chosen = _better(first, doubles, prefer, status)
    parts = (single | pairs)[chosen.name]
    whole = Sized(chosen, search, pooled, status)
    smaller = sizes.compare(whole, parts, prefer, sizing)
    shipped = next((other for other in smaller.scored if sizes.holds(whole, other, prefer)), whole)
    table = _table(prefer, [*singles, *doubles], whole, smaller, shipped.candidate, without)
    return Choice(chosen.name, table, shipped.search, *shipped.pooled.features_of(parts))


def _pairs(search: Search, first: Candidate) -> dict[str, list[str]]:
    """By its name, the taps of each pair of `first` and an earlier tap: at most `_SECOND`, evenly spread over all."""
    order, single = [tap.name for tap in search.backbone.taps], first.name.removesuffix(STD)
    earlier = order[: order.index(single)]
    spread = np.unique(np.linspace(0, len(earlier) - 1, _SECOND).astype(int)) if earlier else ()
    return {f"{earlier[i]}{STD}+{first.name}": [earlier[i], single] for i in spread}


def _scored_pairs(
    search: Search, pooled: Pooled, first: Candidate, pairs: Mapping[str, Sequence[str]], progress: Progress
) -> list[Candidate]:
    """Score the pairs of a tap and an earlier one."""
    alone = [first.name.removesuffix(STD)]
    before, *after = timing.times(search.target, [pooled.graph_of(parts) for parts in (alone, *pairs.values())])
    comparable = [first.ms * ms / before for ms in after]  # of another run: only the ratio is comparable
    return scored(search, pooled, pairs, comparable, progress)


def _better(first: Candidate, pairs: Sequence[Candidate], prefer: str, status: Status) -> Candidate:
    """The best pair that gains enough over the single tap and costs little time, if outsiders look strange there."""

    def score(candidate: Candidate) -> float:
        return candidate.score(prefer, *status.search.all_images)

    gaining = [c for c in pairs if score(c) - score(first) >= _LEAST_GAIN and c.ms <= _MOST_TIME * first.ms]
    return next((c for c in sorted(gaining, key=score, reverse=True) if status.keeps_out(c.name)), first)


_MACS_PER_SECOND, _DECODE_SECONDS, _FIT_SECONDS = 5e10, 1e-3, 2e-3
"""Rough rates, from which the parts of the work get their weights: FP32 on two cores, and times for one image."""


def _work(search: Search, singles: int) -> list[float]:
    """Seconds, roughly, of extraction, scores of single taps, the other changes, scores of pairs, smaller inputs."""
    *first, others = work(search)
    each = _DECODE_SECONDS + search.backbone.taps[-1].macs / _MACS_PER_SECOND
    fit = len(search.data) * (1 + search.copies) * _FIT_SECONDS
    smaller = sum(work(search)) * _DECODE_SECONDS if search.smaller else 0
    return [sum(first) * each, singles * fit, others * each / 2, _SECOND * fit, smaller]


def _table(
    prefer: str,
    at_own_size: Sequence[Candidate],
    whole: Sized,
    smaller: Tried,
    chosen: Candidate,
    without: Sequence[str],
) -> TapTable:
    """What was scored, what would be chosen without the images of each fold, and how many outsiders are familiar."""
    search = whole.search
    candidates = [*at_own_size, *(other.candidate for other in smaller.scored)]
    familiar = {(name, one.search.size): n for one in (whole, *smaller.scored) for name, n in one.status.found.items()}
    tried, best = search.tried, max(candidates, key=lambda c: c.clean(search.all_images[0]))
    records: list[TapCandidate] = [
        {
            "tap": c.name,
            "size": list(c.size),
            "features": c.features,
            "macs": c.macs,
            "ms": round(c.ms, 3),
            **robustness.table(c.correct[tried], c.changed),
            "accuracy": round(c.clean(search.all_images[0]), 2),
            "interval": intervals.of_share(c.correct, search.units),
            "told_from_best": intervals.told_apart(best.correct, c.correct, search.units),
            "transfer": round(c.transfer(search.all_images[0]), 2),
            "outsiders": familiar.get((c.name, c.size)),
        }
        for c in candidates
    ]
    return {
        "prefer": prefer,
        "chosen": chosen.name,
        "chosen_size": list(chosen.size),
        "smaller": smaller.outsiders,
        "first_choice_without_fold": without,
        "protocol": search.protocol,
        "images": len(search.data),
        "battery_images": len(tried),
        "target": search.target,
        "candidates": records,
    }
