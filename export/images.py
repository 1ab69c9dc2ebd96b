"""The images of an export: what is trained on, what is held out, and how they are divided into folds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from edge_all import protocols
from edge_all.progress import Console, Progress

from .dataset import Dataset, divide, every, groups, kaggle, merged, one
from .dataset import read as read_dataset
from .recipe import Conditions, Recipe


@dataclass(frozen=True)
class Images:
    """The images of an export.

    Attributes:
        training: What the head that ships is fitted on.
        held_out: What is measured on; None where nothing is held out.
        held_out_as: How that was chosen, in words.
        part: ``bool [N]``: the training images that are neither held out nor near-duplicates of such, or of their
            groups. Where that is not all of them, what is measured on the held-out images is made of this part.
        duplicates: ``int64 [N]``: near-duplicate group of each training image.
        units: ``int64 [N]``: the same, merged with the groups that were given: images of two units are independent of
            each other, as far as is known. Where no groups were given, they are the near-duplicate groups.
        splits: Fold of each training image, ``int64 [N]``, by protocol.
        seed: Of the splits.
    """

    training: Dataset
    held_out: Dataset | None
    held_out_as: str
    part: np.ndarray
    duplicates: np.ndarray
    units: np.ndarray
    splits: Mapping[str, np.ndarray]
    seed: int

    @property
    def headline(self) -> str:
        """The protocol whose figures count."""
        return protocols.headline(self.splits)

    @property
    def folds(self) -> np.ndarray:
        """Fold of each training image under it, ``int64 [N]``."""
        return self.splits[self.headline]

    @property
    def without_held_out(self) -> Images:
        """Only the images of `part`, split under the headline's protocol alone."""
        if self.part.all():
            return self
        kept, training = self.part, self.training.subset(self.part)
        splits = {self.headline: one(training, self.headline, self.duplicates[kept], self.units[kept], self.seed)}
        return replace(
            self,
            training=training,
            part=kept[kept],
            duplicates=self.duplicates[kept],
            units=self.units[kept],
            splits=splits,
        )


def read(recipe: Recipe, console: Console) -> Images:
    """Read the images of a recipe, and divide them."""
    seed = recipe.conditions.seed
    with console.step("Reading images") as progress:
        everything = read_all(recipe.conditions, progress)
        divided = divide(everything, recipe.hold_out, refit=recipe.refit)
        duplicates = groups(divided.training)
    for line in divided.sentences:
        console.tell(line)
    units = merged(duplicates, divided.training.given)
    splits = every(divided.training, duplicates, units, seed)
    return Images(divided.training, divided.held_out, divided.protocol, divided.part, duplicates, units, splits, seed)


def read_all(conditions: Conditions, progress: Progress) -> Dataset:
    """The images of an export or a study, before any are held out."""
    root = conditions.data if conditions.data or conditions.labels else kaggle.download()
    return read_dataset(root, labels=conditions.labels, groups=conditions.groups, progress=progress)
