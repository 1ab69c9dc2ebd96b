"""Which images are trained on, and which are kept out, to be measured on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_all import protocols
from edge_all.errors import DataError

from .duplicates import groups, merged
from .record import Dataset
from .splits import FOLDS, folds


@dataclass(frozen=True)
class Division:
    """A data set, and what of it is held out.

    Attributes:
        training: What the heads that ship are fitted and cross-validated on.
        held_out: What is measured on; None where nothing is held out.
        protocol: How it was chosen, in words; empty where nothing is.
        part: ``bool [N]``: the training images that are not held out, and share no near-duplicates and no given group
            with those that are.
        crossing: How many images are neither in this part nor held out.
    """

    training: Dataset
    held_out: Dataset | None
    protocol: str
    part: npt.NDArray[np.bool_]
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


def divide(everything: Dataset, hold_out: bool, *, refit: bool = False) -> Division:
    """Keep the data set's own test images out, or with `hold_out` one of five folds.

    Args:
        everything: The data set.
        hold_out: Keep out the last ``block`` fold, or one of ``given_groups`` where groups were given.
        refit: What ships is fitted on all images with `hold_out`, and never on test images of the data set's own.

    Raises:
        DataError: `hold_out` for a data set with test images of its own.
    """
    if "test" in everything.parts:
        if hold_out:
            raise DataError(
                f"--hold-out was given, and {everything.root} has test images of its own, which are held out anyway: "
                "leave --hold-out out"
            )
        test = np.array(everything.parts) == "test"
        return _held_out(everything, test, "the data set's own test split", refit=False)
    if not hold_out:
        return Division(everything, None, "", np.ones(len(everything), bool), 0)
    if everything.given:
        units = merged(groups(everything), everything.given)
        last = folds(everything, protocols.GIVEN_GROUPS, groups=units) == FOLDS - 1
        return _held_out(everything, last, f"{protocols.GIVEN_GROUPS}, one of five folds", refit=refit)
    last = folds(everything, "block") == FOLDS - 1
    return _held_out(everything, last, "block, last of five runs", refit=refit)


def _held_out(everything: Dataset, held_out: npt.NDArray[np.bool_], protocol: str, *, refit: bool) -> Division:
    """Near-duplicates of held-out images, and images of their groups, are in no part."""
    units = merged(groups(everything), everything.given)
    part = ~np.isin(units, units[held_out])
    training = everything if refit else everything.subset(part)
    crossing = int((~part & ~held_out).sum())
    return Division(training, everything.subset(held_out), protocol, part if refit else part[part], crossing)
