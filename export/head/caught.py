"""The referral threshold for a wanted sensitivity: how many positive images may be missed, not how many are answered.

A positive image is missed where the answer is ``ok`` and names a class that is not positive. It is caught where a
positive class is named, or the image is referred or unfamiliar, so that a person looks at it.
"""

from __future__ import annotations

import numpy as np

from edge_all import intervals
from edge_all.record import Caught, Referral

from . import familiarity
from .evaluate import percent
from .scorer import Scorer


def threshold(missed: np.ndarray, positives: int, wanted: float) -> float:
    """The smallest threshold that catches the wanted share, or, where none does, the smallest that catches most.

    Args:
        missed: Largest probability of each image that is missed where nothing is referred.
        positives: How many positive images there are.
        wanted: Percent of them to catch.

    Returns:
        From 0 to 1; images whose largest probability is below it are referred. An image with a probability of exactly 1
        is never referred.
    """
    allowed = int(np.floor(positives * (1 - wanted / 100) + 1e-9))
    surest_first = np.sort(missed)[::-1]
    to_refer = surest_first[allowed:]
    to_refer = to_refer[to_refer < 1]
    return float(np.nextafter(to_refer[0], 1)) if len(to_refer) else 0.0


def referral(
    by_coverage: Referral, scorer: Scorer, probabilities: np.ndarray, unfamiliar: np.ndarray, wanted: float
) -> Referral:
    """When to refer so that the wanted share of positive images is caught.

    Args:
        by_coverage: What would be referred otherwise (`familiarity.referral`).
        scorer: With positive classes.
        probabilities: ``[N, K]``, each image's by a head that has not seen it.
        unfamiliar: ``bool [N]``: images beyond a limit that was not fitted on them.
        wanted: Percent of the positive images.
    """
    labels = scorer.data.labels
    positive = np.isin(labels, scorer.positive)
    sure, called = probabilities.max(1), np.isin(probabilities.argmax(1), scorer.positive)
    passed = ~called & ~unfamiliar
    least = threshold(sure[positive & passed], int(positive.sum()), wanted)
    passed &= sure >= least
    return {
        **by_coverage,
        **familiarity.answered(labels, probabilities, least),
        "caught": _caught(scorer, positive, passed, wanted),
    }


def _caught(scorer: Scorer, positive: np.ndarray, passed: np.ndarray, wanted: float) -> Caught:
    """The share of `positive` images, ``bool [N]``, that is not `passed`, ``bool [N]``, with its interval."""
    units = scorer.units.subset(positive)
    caught: Caught = {
        "wanted": wanted,
        "reached": percent((~passed[positive]).mean()),
        "interval": intervals.of_share(~passed[positive], units),
        "over": units.over,
        "count": units.count,
    }
    if not positive.all():
        caught["passed"] = percent(passed[~positive].mean())
    return caught


def sentence(found: Referral) -> str:
    """What was reached and what it costs, for the user."""
    caught = found["caught"]
    reached = (
        f"{caught['reached']:.2f} % of the positive images are called positive, referred or unfamiliar "
        f"(95 % interval {intervals.words(caught['interval'])}); {found['coverage']:.1f} % of all images are answered "
        f"({found['protocol']})"
    )
    if caught["reached"] < caught["wanted"]:
        return (
            f"--sensitivity {caught['wanted']:g} is not reached by any threshold; with the one that catches most, "
            f"{found['threshold']:.4f}, {reached}"
        )
    return f"--sensitivity {caught['wanted']:g}: images under {found['threshold']:.4f} are referred; {reached}"
