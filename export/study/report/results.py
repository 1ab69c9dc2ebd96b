"""All that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..audit import Audit
from ..curves import Curves
from ..deployed import Deployed
from ..study import Study
from .blocks import PLOTS


@dataclass(frozen=True)
class Results:
    """All that a report shows.

    Attributes:
        study: The study.
        audit: The baselines beside its scores.
        curves: The best pipeline's robustness.
        deployed: The exported pipelines, none with ``--int8 0``.
    """

    study: Study
    audit: Audit
    curves: Curves
    deployed: Sequence[Deployed]

    def plot(self, name: str) -> Path:
        """Where a plot is drawn."""
        return self.study.settings.out / PLOTS / name
