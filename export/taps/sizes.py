"""Smaller inputs for the place that was chosen: fewer pixels take less time, and often lose nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from edge_all.progress import Progress, split

from ..dataset import augment
from ..graph import timing
from .candidates import Candidate, complete, pick, scored, settle
from .pooled import Pooled, Search, extend, fill, prepare, work
from .status import Status

_SHARES = (5 / 7, 6 / 7)
"""Of the backbone's own height and width: 160 and 192 of 224."""

_STEP = 32
"""Sizes are multiples of it: backbones halve a map up to five times."""

_PARTS, _MANY = 4, 1000
"""A fourth of the images says first whether a smaller input lets more in, where there are so many."""


class Sized(NamedTuple):
    """A place at a size.

    Attributes:
        candidate: How it did.
        search: What it was compared with, at its size.
        pooled: Features of its taps at that size.
        status: What its checks say to outsiders.
    """

    candidate: Candidate
    search: Search
    pooled: Pooled
    status: Status


def smaller(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Smaller heights and widths to try, the smallest first."""
    height, width = size
    found = {tuple(round(side * share / _STEP) * _STEP for side in size) for share in _SHARES}
    return [(h, w) for h, w in sorted(found) if _STEP < h < height and _STEP < w < width]


class Tried(NamedTuple):
    """What came of smaller inputs.

    Attributes:
        scored: Those that were scored, the last one of which is to be taken where it `holds`.
        outsiders: How many pictures that are no fields would be familiar, by "WIDTHxHEIGHT" of each that was tried.
    """

    scored: list[Sized]
    outsiders: dict[str, int]


def compare(whole: Sized, taps: Sequence[str], prefer: str, progress: Progress) -> Tried:
    """Try a place at smaller inputs, the smallest first, until one holds.

    One at which more outsiders would be familiar than at the backbone's own size is not scored, be it on a part of the
    images alone.

    Args:
        whole: The place at the backbone's own size.
        taps: Its taps.
        prefer: A key of `candidates.TOLERANCE`.
        progress: Counts work.
    """
    search, name = whole.search, whole.candidate.name
    judged = whole.status.judged(name)
    tried = Tried([], {})
    for (height, width), part in zip(search.smaller, split(progress, [h * w for h, w in search.smaller]), strict=True):
        own = replace(search, size=(height, width))
        images, some, remaining = work(own)
        unchanged, hardest, scoring, others = split(part, [images, some, 0.2 * (images + some), remaining])
        pooled = prepare(own, judged)
        status = Status(own, pooled)
        tried.outsiders[f"{width}x{height}"], more = _let_in(status, whole, unchanged)
        if more:
            continue
        extend(own, pooled, taps, augment.HARDEST, hardest)
        before, after = timing.times(search.target, [whole.pooled.graph_of(taps), pooled.graph_of(taps)])
        ms = whole.candidate.ms * after / before  # of another run: only the ratio is comparable
        (candidate,) = scored(own, pooled, {name: taps}, [ms], scoring)
        finish = partial(complete, own, pooled, {name: taps}, progress=others)
        settle([whole.candidate, candidate], prefer, *search.all_images, finish)
        tried.scored.append(Sized(candidate, own, pooled, status))
        if holds(whole, tried.scored[-1], prefer):
            break
    return tried


def _let_in(smaller: Status, whole: Sized, progress: Progress) -> tuple[int, bool]:
    """How many outsiders would be familiar from a smaller input, and whether these are more than from the own size.

    Features are extracted from a part of the images first; where that part lets in more, the others are not.
    """
    name, (every, _) = whole.candidate.name, whole.search.all_images
    first = np.arange(len(every)) % _PARTS == 0
    parts = [first, ~first] if len(every) >= _MANY else [every]
    seen, found = ~every, 0
    for part, filling in zip(parts, split(progress, [part.sum() for part in parts]), strict=True):
        fill(smaller.search, smaller.pooled, part, filling)
        seen = seen | part
        found = smaller.familiar(name, seen)
        if found > whole.status.familiar(name, seen):
            return found, True
    return found, False


def holds(whole: Sized, other: Sized, prefer: str) -> bool:
    """Whether a smaller input that was scored is to be taken: it is faster, and within the tolerance."""
    return pick([whole.candidate, other.candidate], prefer, *whole.search.all_images) is other.candidate
