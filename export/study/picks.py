"""The study as a whole, and its winners: which pipelines did best, and how to export them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_all.errors import StudyError

from ..dataset import Dataset
from ..graph.weights import Weights
from ..head.evaluate import Fit
from ..head.fit import fit_head
from ..recipe import Recipe
from . import settings, table
from .grid import Ground
from .settings import Settings
from .table import Row


@dataclass(frozen=True)
class Study:
    """What the parts of a study share.

    Attributes:
        settings: What was asked for.
        data: The images.
        duplicates: ``int64 [N]``: groups of near-duplicates.
        ground: Features, labels and splits.
        graphs: Backbones up to their taps, by name.
        weights: Of the backbones.
        cells: The table.
    """

    settings: Settings
    data: Dataset
    duplicates: np.ndarray
    ground: Ground
    graphs: Mapping[str, onnx.ModelProto]
    weights: Mapping[str, Weights]
    cells: Sequence[Row]

    @property
    def own(self) -> list[Row]:
        """The pipelines of what was asked for now, the best first."""
        return [row for row in table.ranking(self.cells) if row["backbone"] in self.graphs]

    def fit(self, row: Row) -> Fit:
        """Fits a pipeline's head, its setting the one that most folds chose."""
        return partial(
            fit_head, selector=row["selector"], classifier=row["classifier"], setting=row["setting"],
            count=self.settings.features, seed=self.settings.seed,
        )  # fmt: skip


@dataclass(frozen=True)
class Pick:
    """A pipeline of a study, to be exported.

    Attributes:
        folder: The study's.
        row: The pipeline's line in the table.
        number: Its place in the ranking, from 1.
    """

    folder: Path
    row: Row
    number: int

    def options(self) -> dict[str, Any]:
        """What of `Recipe` the study decides.

        The setting is the one that most folds chose.
        """
        known, row = settings.load(self.folder), self.row
        named = {name: row[name] for name in ("backbone", "tap", "selector", "classifier", "setting")}
        same = {name: known[name] for name in ("augment", "balance", "equalize", "mask_corner", "seed", "features")}
        size = tuple(known["size"]) if known["size"] else None
        weights = known["weights_from"][row["backbone"]]
        data = Path(known["data"]) if known["data"] else None
        return named | same | {"size": size, "weights": weights, "data": data}

    def sentence(self) -> str:
        """What it is, for the user."""
        row = self.row
        named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in row["setting"].items())
        return (
            f"pick {self.number} of {self.folder}: {row['backbone']} at {row['tap']}, {row['selector']}, "
            f"{row['classifier']} ({named}): {row['accuracy']:.2f} % under {row['protocol']} in FP32"
        )

    def recipe(self, **changed: Any) -> Recipe:
        """The export's recipe, with some of it changed."""
        return Recipe(**(self.options() | changed))


def pick(folder: Path, number: int = 1) -> Pick:
    """A pipeline by its place in a study's ranking.

    Raises:
        StudyError: There is no study, or no such place in it.
    """
    settings.load(folder)
    ranked = table.ranking(table.read(folder))
    if not 1 <= number <= len(ranked):
        raise StudyError(f"--pick {number} was given; {folder} ranks {len(ranked)} pipelines: give 1 to {len(ranked)}")
    return Pick(folder, ranked[number - 1], number)
