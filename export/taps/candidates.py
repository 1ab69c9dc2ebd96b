"""What a tap is worth: how often its heads are right, on what they have seen the like of and on what they have not.

Balanced, speed and accuracy weigh two accuracies under ``block`` alike: on the images as they are, and under the worst
change of `augment.BATTERY`. Transfer takes, in place of the first, the balanced accuracy on looks that were left out.

All are tried with the hardest changes. The other changes can only take from a score, so they are made (`settle`) where
the choice hangs on them, and nowhere else: it is the choice that all of them would give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_all.progress import Progress, ignore

from ..backbones import places
from ..dataset.augment import BATTERY
from ..head import evaluate
from ..head.fit import Head
from .pooled import Pooled, Search, extend

TRANSFER = "transfer"

TOLERANCE: Mapping[str, float] = {"accuracy": 0.0, "balanced": 0.25, "speed": 1.0, TRANSFER: 0.25}
"""Percentage points by which the chosen tap's score may be under the best one, by what is preferred."""


@dataclass(frozen=True)
class Candidate:
    """A tap, or two of them, at a size of the input, and how it did.

    Attributes:
        name: As in `backbones.places`.
        features: How many there are.
        macs: Multiply-accumulates up to there, at the backbone's own input size.
        ms: Median time of its FP32 graph for one image on this machine, in milliseconds.
        labels: ``int64 [N]``.
        correct: ``bool [N]``: whether the head of its fold names each image's class.
        unseen: Likewise, of the head that was fitted without the images of its look.
        changed: Like `correct`, under changes of the battery, ``bool [M]`` by change: those that it was tried with.
        size: Height and width of the input, in pixels.
    """

    name: str
    features: int
    macs: int
    ms: float
    labels: np.ndarray
    correct: np.ndarray
    unseen: np.ndarray
    changed: dict[str, np.ndarray]
    size: tuple[int, int]

    @property
    def is_complete(self) -> bool:
        """Whether it was tried with the whole battery."""
        return len(self.changed) == len(BATTERY)

    def clean(self, images: np.ndarray) -> float:
        """Accuracy in percent on a part of the N images, ``bool [N]``."""
        return 100 * float(self.correct[images].mean())

    def transfer(self, images: np.ndarray) -> float:
        """Balanced accuracy in percent on looks left out, on a part of the N images, ``bool [N]``."""
        labels, unseen = self.labels[images], self.unseen[images]
        return 100 * float(np.mean([unseen[labels == label].mean() for label in np.unique(labels)]))

    def worst(self, tried: np.ndarray) -> float:
        """Accuracy in percent under the worst change it was tried with, on a part of the M images, ``bool [M]``."""
        return 100 * min(float(right[tried].mean()) for right in self.changed.values())

    def score(self, prefer: str, images: np.ndarray, tried: np.ndarray) -> float:
        """What it is worth to who prefers a key of `TOLERANCE`, on a part of the images."""
        first = self.transfer(images) if prefer == TRANSFER else self.clean(images)
        return (first + self.worst(tried)) / 2


def pick(candidates: Sequence[Candidate], prefer: str, images: np.ndarray, tried: np.ndarray) -> Candidate:
    """The fastest candidate whose score is within the tolerance of the best.

    Args:
        candidates: To choose from.
        prefer: A key of `TOLERANCE`.
        images: ``bool [N]``: the images that count.
        tried: ``bool [M]``: those of the battery that count.
    """
    scores = [candidate.score(prefer, images, tried) for candidate in candidates]
    good = [c for c, score in zip(candidates, scores, strict=True) if score >= max(scores) - TOLERANCE[prefer] - 1e-9]
    return min(good, key=lambda c: c.ms)


def settle(
    candidates: Sequence[Candidate],
    prefer: str,
    images: np.ndarray,
    tried: np.ndarray,
    complete: Callable[[Candidate], None],
) -> Candidate:
    """What `pick` gives once all are tried with the whole battery, of which no more is made than the answer hangs on.

    Args:
        candidates: To choose from.
        prefer: A key of `TOLERANCE`.
        images: ``bool [N]``: the images that count.
        tried: ``bool [M]``: those of the battery that count.
        complete: Tries one with the changes that are missing.
    """

    def score(candidate: Candidate) -> float:
        return candidate.score(prefer, images, tried)

    while True:
        chosen, best = pick(candidates, prefer, images, tried), max(candidates, key=score)
        if not chosen.is_complete:
            complete(chosen)
            continue
        # If the best falls, faster ones may come within the tolerance, but not those below that of the best known.
        known = max(score(c) for c in candidates if c.is_complete) - TOLERANCE[prefer] - 1e-9
        if best.is_complete or all(score(c) < known for c in candidates if c.ms < chosen.ms):
            return chosen
        complete(best)


def complete(
    search: Search, pooled: Pooled, taps: Mapping[str, Sequence[str]], candidate: Candidate, progress: Progress = ignore
) -> None:
    """Try a candidate with the changes of the battery that are missing.

    Args:
        search: What it is compared with.
        pooled: Features of its taps, to which those under these changes are added.
        taps: Its taps, by its name.
        candidate: To which the outcome is added.
        progress: Counts changed images.
    """
    parts, labels, folds = taps[candidate.name], search.data.labels, search.folds
    extend(search, pooled, parts, BATTERY, progress)
    rows, pictures = pooled.features_of(parts)
    missing = {change: of_change for change, of_change in pictures.items() if change not in candidate.changed}
    heads = evaluate.fold_heads(rows, labels, folds, replace(search.spec, labels_only=True))
    candidate.changed.update(_changed(search, heads, missing))


def _changed(search: Search, heads: Sequence[Head], pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whether the heads of the folds name the classes of changed images: ``bool [M]`` by change."""
    labels, folds = search.data.labels[search.tried], search.folds[search.tried]
    return {
        change: evaluate.answer(heads, of_change, folds).argmax(1) == labels for change, of_change in pictures.items()
    }


def scored(
    search: Search,
    pooled: Pooled,
    candidates: Mapping[str, Sequence[str]],
    times: Sequence[float],
    progress: Progress,
) -> list[Candidate]:
    """Fit heads on the features of each candidate's taps, and evaluate them.

    Args:
        search: What they are compared with.
        pooled: Features of all their taps.
        candidates: The taps of each, by its name.
        times: Milliseconds of each.
        progress: Counts candidates.
    """
    labels, folds, looks = search.data.labels, search.folds, search.looks
    spec = replace(search.spec, labels_only=True)
    found = []
    for (name, taps), ms in zip(candidates.items(), times, strict=True):
        rows, pictures = pooled.features_of(taps)
        heads = evaluate.fold_heads(rows, labels, folds, spec)
        correct = evaluate.answer(heads, rows.plain, folds).argmax(1) == labels
        changed = _changed(search, heads, pictures)
        blind = evaluate.fold_heads(rows, labels, looks, spec)
        unseen = evaluate.answer(blind, rows.plain, looks).argmax(1) == labels
        macs = max(place.tap.macs for place in places(search.backbone, name))
        found.append(Candidate(name, rows.plain.shape[1], macs, ms, labels, correct, unseen, changed, search.size))
        progress(len(found), len(candidates))
    return found
