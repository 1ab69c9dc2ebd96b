"""What an adaptation is asked for, what comes of it, and the views of a site's fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_all.bundle import Bundle
from edge_all.progress import Progress
from edge_all.record import Adaptation

from .. import features
from ..dataset import Dataset, spread
from ..dataset.changes import Change
from .gate import Check

VIEWS = 4
"""Quarter turns of every field of the site, itself included, that the head is fitted on."""

COMPARED = 32
"""Fields that the new graphs are compared with their heads on."""


@dataclass(frozen=True)
class Request:
    """What to adapt to what.

    Attributes:
        bundle: The bundle.
        site: The folder of the site's images.
        out: The new bundle's folder or ``.zip``; None is ``models/NAME-SITE``.
    """

    bundle: Bundle
    site: Path
    out: Path | None = None

    @property
    def place(self) -> Path:
        """Of the new bundle."""
        return self.out or Path("models", self.name)

    @property
    def name(self) -> str:
        """Of the new bundle."""
        return f"{self.bundle.name}-{self.site.resolve().name}"[:200].strip()


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        bundle: As written; None where the gate refused.
        lineage: What was measured.
        checks: What the gate looked at.
        advice: What would help, where it refused.
    """

    bundle: Bundle | None
    lineage: Adaptation
    checks: Sequence[Check]
    advice: Sequence[str]


def turned(data: Dataset, size: tuple[int, int], turns: int, progress: Progress) -> Iterator[np.ndarray]:
    """Yield each image, ``uint8 [H, W, 3]``, after so many quarter turns."""
    change = Change(f"{turns} quarter turns", turns=turns) if turns else None
    for done, image in enumerate(features.changed(data, size, change), 1):
        yield image
        progress(done, len(data))


def sample(data: Dataset, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Some of the images, ``uint8 [M, H, W, 3]``, and their numbers."""
    numbers = spread(np.arange(len(data)), COMPARED)
    return np.stack(list(features.decoded(data.take(numbers).paths, size))), numbers
