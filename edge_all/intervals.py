"""95 % intervals of accuracies: how far a figure may be off because other images could have been taken.

Images of one spot, slide or patient are right or wrong together, so whole groups are resampled and never single images:
the bootstrap of Efron and Tibshirani (1993, An Introduction to the Bootstrap, chapter 13: the percentile interval) over
clusters, as Field and Welsh examine it (2007, Bootstrapping clustered data, doi 10.1111/j.1467-9868.2007.00593.x). A
resample draws as many groups as there are, with replacement; that gives each group a multinomial weight. Groups with
the same counts are drawn together, which is the same distribution and takes milliseconds.

Where all images are right, every resample is the same and the bootstrap knows of no error. There the interval is exact:
if the true share were under ``0.025 ** (1 / G)``, then all of G groups would be right with a probability of less than
2.5 %. That is the interval of Clopper and Pearson (1934, doi 10.1093/biomet/26.4.404) for G of G; likewise for none.

The folds of ``block`` are no groups: there are five a class, too few to resample. Its figures are resampled over groups
of near-duplicates too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_all.record import Detection, Intervals

RESAMPLES = 2000

TAIL = 0.025
"""Probability on either side of an interval."""

IMAGES = "images"
NEAR_DUPLICATES = "near-duplicate groups"
GIVEN_GROUPS = "given groups"

Interval = list[float]
"""Lower and upper limit; a list, as JSON has it."""

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Units:
    """What is resampled.

    Attributes:
        groups: ``int64 [N]``: number of the group of each image; any numbers.
        over: What the groups are: `IMAGES`, `NEAR_DUPLICATES` or `GIVEN_GROUPS`.
    """

    groups: Ints
    over: str

    @classmethod
    def images(cls, count: int) -> Units:
        """Each image on its own."""
        return cls(np.arange(count), IMAGES)

    @classmethod
    def named(cls, groups: Sequence[str]) -> Units:
        """Images whose groups have the same name together, and each image whose name is empty on its own."""
        if not any(groups):
            return cls.images(len(groups))
        names = [name or f"\0{number}" for number, name in enumerate(groups)]
        return cls(np.unique(names, return_inverse=True)[1], GIVEN_GROUPS)

    @property
    def count(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.groups))

    def subset(self, chosen: Bools) -> Units:
        """The images where `chosen`, ``bool [N]``, is true."""
        return Units(self.groups[chosen], self.over)


def of_score(
    labels: Ints, answers: Ints, classes: Sequence[str], units: Units, positive: Sequence[int] = ()
) -> Intervals:
    """The intervals of accuracy, balanced accuracy and recalls, and of sensitivity and specificity.

    Args:
        labels: ``int64 [N]``, N of 1 or more.
        answers: ``int64 [N]``: the class that each image got.
        classes: Names of the classes.
        units: What is resampled.
        positive: Numbers of the positive classes; with none there is neither sensitivity nor specificity.

    Returns:
        In percent. A class without images has no recall.
    """
    present = np.unique(labels)
    counted = np.stack([np.ones(len(labels), bool), *(labels == k for k in present)], axis=1)
    right = np.repeat((labels == answers)[:, np.newaxis], counted.shape[1], axis=1)
    recalls = slice(1, 1 + len(present))
    is_positive, called = np.isin(labels, positive), np.isin(answers, positive)
    if len(positive):
        counted = np.column_stack([counted, is_positive, ~is_positive])
        right = np.column_stack([right, *[called == is_positive] * 2])
    shares, drawn, groups = _resampled(right, counted, units.groups)
    limits = [_limits(*figure) for figure in zip(shares, drawn.T, groups[:, np.newaxis], strict=True)]
    of_classes = groups[recalls] * min(1.0, units.count / groups[recalls].sum())  # a group of two classes counts once
    balanced = _limits(float(shares[recalls].mean()), np.nanmean(drawn[:, recalls], axis=1), of_classes)
    intervals: Intervals = {
        "accuracy": limits[0],
        "balanced_accuracy": balanced,
        "recall": {classes[k]: interval for k, interval in zip(present, limits[recalls], strict=True)},
        "over": units.over,
        "count": units.count,
    }
    if len(positive) and is_positive.any():
        intervals["sensitivity"] = limits[-2]
    if len(positive) and not is_positive.all():
        intervals["specificity"] = limits[-1]
    return intervals


def of_share(right: Bools, units: Units) -> Interval:
    """The interval of the share of images for which `right`, ``bool [N]``, is true, in percent."""
    column = right[:, np.newaxis]
    (share,), drawn, groups = _resampled(column, np.ones_like(column), units.groups)
    return _limits(float(share), drawn[:, 0], groups)


def difference(first: Bools, second: Bools, units: Units) -> Interval:
    """The interval of how many points more of the same images are right by the first than by the second.

    The bootstrap is paired: a resample draws the same groups for both. So what is hard for both, and makes both
    accuracies uncertain, cancels out. If 0 lies inside, these images do not tell the two apart.

    Args:
        first: ``bool [N]``: whether each image is right.
        second: The same by the other.
        units: What is resampled.

    Returns:
        In percentage points, from -100 to 100. Where the two are right on the same images of every group, the limits
        are those of G groups without one that differs.
    """
    sums = _sums(np.column_stack([first, second, np.ones(len(first))]), units.groups)
    drawn = _draw(sums)
    apart = float(first.mean() - second.mean())
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / drawn[:, 2], [TAIL, 1 - TAIL])
    if high - low < _NOTHING:
        least = _least(np.array([float(len(sums))]))
        low, high = apart * least - (1 - least), apart * least + (1 - least)
    return [_percent(low), _percent(high)]


def told_apart(first: Bools, second: Bools, units: Units) -> bool:
    """Whether the accuracies of two on the same images differ by more than their error (`difference`)."""
    low, high = difference(first, second, units)
    return low > 0 or high < 0


def overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two intervals have a value in common."""
    return first[0] <= second[1] and second[0] <= first[1]


def detection(labels: Ints, answers: Ints, positive: Sequence[int]) -> Detection:
    """Sensitivity and specificity of the positive classes against the rest, in percent.

    Args:
        labels: ``int64 [N]``.
        answers: ``int64 [N]``: the class that each image got; one positive class for another is no error here.
        positive: Numbers of the positive classes.

    Returns:
        The share of positive images that got a positive class, and of the others that got another; without such images,
        or positive classes, there is no such share.
    """
    is_positive, called = np.isin(labels, positive), np.isin(answers, positive)
    shares: Detection = {}
    if is_positive.any():
        shares["sensitivity"] = _percent(called[is_positive].mean())
    if len(positive) and not is_positive.all():
        shares["specificity"] = _percent((~called[~is_positive]).mean())
    return shares


def words(interval: Sequence[float], digits: int = 1) -> str:
    """An interval for readers, such as "97.9-98.8"."""
    return f"{interval[0]:.{digits}f}-{interval[1]:.{digits}f}"


_NOTHING = 1e-9
"""A width below which all resamples gave the same."""


def _resampled(right: Bools, counted: Bools, groups: Ints) -> tuple[Floats, Floats, Floats]:
    """Shares ``[J]`` of what is right among what counts, the same of every resample ``[R, J]``, and groups ``[J]``.

    Args:
        right: ``bool [N, J]``.
        counted: ``bool [N, J]``: the images that a share is of.
        groups: ``int64 [N]``.
    """
    figures = right.shape[1]
    sums = _sums(np.column_stack([right & counted, counted]), groups)
    total, drawn = sums.sum(0), _draw(sums)
    with np.errstate(invalid="ignore"):  # a resample without an image of the class has no recall of it
        shares, resampled = total[:figures] / total[figures:], drawn[:, :figures] / drawn[:, figures:]
    return shares, resampled, (sums[:, figures:] > 0).sum(0).astype(np.float64)


def _sums(columns: npt.NDArray[np.generic], groups: Ints) -> Floats:
    """The sum of each column ``[N, C]`` over the images of each group: ``float64 [G, C]``."""
    _, number = np.unique(groups, return_inverse=True)
    return np.stack([np.bincount(number, weights=column) for column in columns.T], axis=1)


def _draw(sums: Floats) -> Floats:
    """Totals ``[R, C]`` of resamples of the groups whose counts are ``[G, C]``; the same ones for the same counts."""
    patterns, times = np.unique(sums, axis=0, return_counts=True)
    weights = np.random.default_rng(0).multinomial(len(sums), times / len(sums), size=RESAMPLES)
    return np.asarray(weights @ patterns, np.float64)


def _limits(share: float, drawn: Floats, groups: Floats) -> Interval:
    """The interval of a share, or of the mean of several, in percent.

    Args:
        share: The figure itself, from 0 to 1.
        drawn: Its values in all resamples; NaN where a resample has none.
        groups: How many groups each of the shares is of.
    """
    if not groups.all():
        return [0.0, 100.0]
    low, high = np.nanquantile(drawn, [TAIL, 1 - TAIL])
    if high - low < _NOTHING:
        least = _least(groups)
        low, high = share * least, 1 - (1 - share) * least
    return [_percent(low), _percent(high)]


def _least(groups: Floats) -> float:
    """The least mean of true shares under which all groups are right with a probability of `TAIL`.

    Of one share it is ``TAIL ** (1 / G)``. Of several, whose probability is the product, the mean is least where the
    shares are proportional to their numbers of groups, with those that would pass 1 left at 1.

    Args:
        groups: How many groups each share is of, ``[J]``.
    """
    ordered, means = np.sort(groups), [1.0]
    for count in range(1, len(ordered) + 1):
        below = ordered[:count]
        shares = below * np.exp((np.log(TAIL) - (below * np.log(below)).sum()) / below.sum())
        if shares[-1] <= 1:
            means.append((shares.sum() + len(ordered) - count) / len(ordered))
    return float(min(means))


def _percent(share: float) -> float:
    return round(100 * float(share), 3)
