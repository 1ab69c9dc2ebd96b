"""Which images are trained on, and which are kept out of everything to measure the finished bundle on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edge_all import protocols
from edge_all.errors import DataError

from .duplicates import groups, merged
from .record import Dataset
from .splits import FOLDS, folds


@dataclass(frozen=True)
class Division:
    """A data set in two parts that share no near-duplicates, and no given group.

    Attributes:
        training: What heads are fitted and cross-validated on.
        held_out: What is kept out; None where nothing is.
        protocol: How it was chosen, in words; empty where nothing is.
        crossing: Images for training that were dropped for being near-duplicates of held-out ones, or of their groups.
    """

    training: Dataset
    held_out: Dataset | None
    protocol: str
    crossing: int

    @property
    def sentences(self) -> Iterator[str]:
        """What the user is to know of it."""
        yield from self.training.notices
        if self.held_out is None or not self.held_out.parts:
            return
        kept, parts = len(self.training), self.training.parts
        pooled = f" ({parts.count('train')} of train, {parts.count('val')} of val)" if "val" in parts else ""
        dropped = (
            f"; {self.crossing} more were dropped, for they are near-duplicates of test images or of their groups"
            if self.crossing
            else ""
        )
        yield (
            f"the data set's own splits are kept: {kept} images are trained on{pooled}, and {len(self.held_out)} test "
            f"images are kept out{dropped}"
        )


def divide(everything: Dataset, hold_out: bool) -> Division:
    """Keep the data set's own test images out, or with `hold_out` one of five folds.

    Args:
        everything: The data set.
        hold_out: Keep out the last ``block`` fold, or one of ``given_groups`` where groups were given.

    Raises:
        DataError: `hold_out` for a data set with test images of its own.
    """
    if "test" in everything.parts:
        if hold_out:
            raise DataError(
                f"--hold-out was given, and {everything.root} has test images of its own, which are held out anyway: "
                "leave --hold-out out"
            )
        return _without(everything, np.array(everything.parts) == "test", "the data set's own test split")
    if not hold_out:
        return Division(everything, None, "", 0)
    if everything.given:
        last = (
            folds(everything, protocols.GIVEN_GROUPS, groups=merged(groups(everything), everything.given)) == FOLDS - 1
        )
        return _without(everything, last, f"{protocols.GIVEN_GROUPS}, one of five folds")
    return _without(everything, folds(everything, "block") == FOLDS - 1, "block, last of five runs")


def _without(everything: Dataset, held_out: np.ndarray, protocol: str) -> Division:
    """Near-duplicates of held-out images, and images of their groups, are dropped from the others."""
    units = merged(groups(everything), everything.given)
    crossing = np.isin(units, units[held_out]) & ~held_out
    training = everything.subset(~held_out & ~crossing)
    return Division(training, everything.subset(held_out), protocol, int(crossing.sum()))
