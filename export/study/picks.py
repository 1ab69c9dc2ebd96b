"""The pipelines of a study by their place in its ranking, and how to export them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_all.errors import StudyError

from ..recipe import Conditions, Recipe
from . import settings, table
from .table import Row


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

    def recipe(self) -> Recipe:
        """How to export it: all that the study decides, with the setting that most folds chose; the rest by default."""
        stored, cell = settings.read(self.folder), self.row.cell
        conditions = Conditions(
            data=Path(stored["data"]) if stored["data"] else None,
            labels=Path(stored["labels"]) if stored["labels"] else None,
            groups=stored["groups"] or None,
            features=stored["features"],
            augment=stored["augment"],
            balance=stored["balance"],
            equalize=stored["equalize"],
            mask_corner=stored["mask_corner"],
            size=(stored["size"][0], stored["size"][1]) if stored["size"] else None,
            seed=stored["seed"],
        )
        return Recipe(
            backbone=cell.backbone,
            selector=cell.selector,
            classifier=cell.classifier,
            setting=self.row.setting,
            conditions=conditions,
            weights=stored["weights_from"][cell.backbone],
            tap=cell.tap,
        )

    def sentence(self) -> str:
        """What it is, for the user."""
        cell = self.row.cell
        named = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in self.row.setting.items())
        return (
            f"pick {self.number} of {self.folder}: {cell.backbone} at {cell.tap}, {cell.selector}, {cell.classifier} "
            f"({named}): {self.row.scores.accuracy:.2f} % under {cell.protocol} in FP32"
        )


def pick(folder: Path, number: int = 1) -> Pick:
    """A pipeline by its place in a study's ranking.

    Raises:
        StudyError: There is no study, or no such place in its ranking.
    """
    settings.read(folder)
    ranked = table.ranking(table.read(folder))
    if not 1 <= number <= len(ranked):
        raise StudyError(f"--pick {number} was given; {folder} ranks {len(ranked)} pipelines: give 1 to {len(ranked)}")
    return Pick(folder, ranked[number - 1], number)
