"""Whether pictures that are no fields would be kept out at a place, before an export is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .. import backbones
from ..head import familiarity, fold_checks
from ..head.fit import Head
from ..head.fold_checks import FoldChecks
from .candidates import Candidate
from .pooled import Pooled, Search

_SEEDS = (0, 1)
"""Of the pictures."""

_MOST = 4
"""Places that are tried."""


@dataclass(frozen=True)
class Status:
    """What the checks of places say to `outsiders`.

    Attributes:
        search: What places are compared with.
        pooled: Features of all their taps, and of the taps that are judged beside them.
        found: How many outsiders would be familiar, by place, as far as it was asked.
    """

    search: Search
    pooled: Pooled
    found: dict[str, int] = field(default_factory=dict)

    def judged(self, name: str) -> list[str]:
        """The taps of a place, and those that are judged beside it."""
        guard = backbones.guard(self.search.backbone, name)
        return [place.tap.name for place in backbones.places(self.search.backbone, guard.places if guard else name)]

    def familiar(self, name: str, images: np.ndarray | None = None) -> int:
        """How many outsiders would be familiar at a place.

        Args:
            name: Of the place, as `backbones.places` reads it.
            images: ``bool [N]``: those that an export would be made of; None is all.
        """
        if images is not None and not images.all():
            return self._familiar(name, images)
        if name not in self.found:
            self.found[name] = self._familiar(name, self.search.all_images[0])
        return self.found[name]

    def keeps_out(self, name: str) -> bool:
        """Whether no outsider would be familiar at a place."""
        return not self.familiar(name)

    def best(self, candidates: Sequence[Candidate], pick: Callable[[Sequence[Candidate]], Candidate]) -> Candidate:
        """The best candidate at whose place no outsider would be familiar; where none of the first is one, the best.

        Args:
            candidates: One or more.
            pick: Gives the best of those that are left.
        """
        left = list(candidates)
        for _ in range(min(_MOST, len(candidates))):
            chosen = pick(left)
            if self.keeps_out(chosen.name):
                return chosen
            left = [other for other in left if other is not chosen]
        return pick(candidates)

    def _familiar(self, name: str, images: np.ndarray) -> int:
        """How many outsiders are within the limits that an export would set, drawn in as far as they may be."""
        search, guard, taps = self.search, backbones.guard(self.search.backbone, name), self.judged(name)
        labels, folds = search.data.labels[images], search.folds[images]
        rows = self.pooled.features_of(taps)[0].of(images)
        spec = replace(search.spec, columns=guard.head if guard else None)

        def reader(fold: int) -> Head:
            inputs, shown = rows.training(folds != fold)
            return spec.select(inputs, labels[shown], shown).unclassified()

        readers = [reader(fold) for fold in range(int(folds.max()) + 1)]
        checks = FoldChecks.fit(readers, rows, folds, guard)
        distances = checks.distances(readers, rows.plain, folds)
        limits = familiarity.limits(distances)
        shares = checks.shares(readers, self._strangers[:, self.pooled.of(taps)], limits)
        return int((shares <= fold_checks.least_factor(distances, limits)).sum())

    @cached_property
    def _strangers(self) -> np.ndarray:
        """Features of all outsiders, ``float32 [M, C]``."""
        return fold_checks.strangers(self.pooled.graph, _SEEDS)
