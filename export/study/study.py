"""A study as a whole: what its parts share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..dataset import Dataset
from ..graph.weights import Weights
from ..head.fit import HeadSpec
from . import table
from .grid import Inputs
from .settings import Settings
from .table import Row


@dataclass(frozen=True)
class Study:
    """What the parts of a study share.

    Attributes:
        settings: What was asked for.
        data: The images.
        duplicates: ``int64 [N]``: groups of near-duplicates.
        inputs: Features, labels and splits.
        graphs: Backbones up to their taps, by name.
        weights: Of the backbones, by name.
        cells: The whole table: those of backbones that were studied earlier too.
    """

    settings: Settings
    data: Dataset
    duplicates: np.ndarray
    inputs: Inputs
    graphs: Mapping[str, onnx.ModelProto]
    weights: Mapping[str, Weights]
    cells: Sequence[Row]

    @property
    def ranked(self) -> list[Row]:
        """The pipelines of the backbones that were asked for now, the best first."""
        return [row for row in table.ranking(self.cells) if row.cell.backbone in self.graphs]

    @property
    def best(self) -> Row:
        return self.ranked[0]

    def spec(self, row: Row) -> HeadSpec:
        """The head of a pipeline, with the setting that most folds chose."""
        conditions = self.settings.conditions
        return HeadSpec(row.cell.selector, row.cell.classifier, conditions.features, conditions.seed, row.setting)
