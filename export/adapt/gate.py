"""What an adapted bundle must keep, and the table that says whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_all.record import BeforeAfter, Figures, Outsiders

from ..head.evaluate import percent
from .refit import Pool

MOST_WRONG_OK = 1.0
"""Percent of the fields that may be wrong with the status ``ok``; or one field, where that is more."""

MOST_LOST_AT_HOME = 0.5
"""Percentage points of accuracy that may be lost on the kept training features."""

ENOUGH = 20
"""Fields of a class beyond which more of them did not help where it was measured."""


def figures(labels: np.ndarray, groups: np.ndarray, probabilities: np.ndarray, ok: np.ndarray) -> Figures:
    """Figures of held-out answers.

    Args:
        labels: ``int64 [S]``.
        groups: ``int64 [S]``: images that stay together.
        probabilities: ``[S, K]``.
        ok: ``bool [S]``: which have the status ``ok``.
    """
    right = probabilities.argmax(1) == labels
    low, high = _interval(right, groups)
    return {
        "images": len(labels),
        "accuracy": percent(right.mean()),
        "low": percent(low),
        "high": percent(high),
        "ok": percent(ok.mean()),
        "wrong_ok": percent((ok & ~right).mean()),
    }


def _interval(right: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), as if there were one image a group: they are right together."""
    count, share, z = len(np.unique(groups)), float(right.mean()), 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Check:
    """A line of the table.

    Attributes:
        name: What is looked at.
        before: Of the bundle as it is.
        after: Of the adapted one.
        wanted: In words.
        passed: Whether it is so.
    """

    name: str
    before: str
    after: str
    wanted: str
    passed: bool


def checks(site: BeforeAfter, home: BeforeAfter, outsiders: Outsiders) -> list[Check]:
    """What is measured before anything is written."""
    return [_better(site), _wrong_ok("site", site), _home(home), _wrong_ok("home", home), _refused(outsiders)]


def _better(site: BeforeAfter) -> Check:
    before, after = site["before"], site["after"]

    def worth(of: Figures) -> float:
        return of["accuracy"] + of["ok"] - 2 * of["wrong_ok"]

    better = after["accuracy"] >= before["accuracy"] and worth(after) > worth(before)
    return Check("site: right", _share(before), _share(after), "better, or as many and more of them ok", better)


def _home(home: BeforeAfter) -> Check:
    lost = home["before"]["accuracy"] - home["after"]["accuracy"]
    wanted = f"at most {MOST_LOST_AT_HOME} less"
    return Check("home: right", _share(home["before"]), _share(home["after"]), wanted, lost <= MOST_LOST_AT_HOME)


def _wrong_ok(where: str, both: BeforeAfter) -> Check:
    before, after = both["before"], both["after"]
    allowed = max(MOST_WRONG_OK, 100 / after["images"])
    if where == "home":
        allowed = max(allowed, before["wrong_ok"])
    was, now = (f"{each['wrong_ok']:.1f} of {each['ok']:.1f} ok" for each in (before, after))
    passed = after["wrong_ok"] <= allowed + 1e-6
    return Check(f"{where}: wrong with ok", was, now, f"at most {allowed:.1f}", passed)


def _refused(outsiders: Outsiders) -> Check:
    before, after = outsiders["ok_before"], outsiders["ok_after"]
    was, now = (f"{each} of {outsiders['images']}" for each in (before, after))
    return Check("outsiders with ok", was, now, "no more than before", after <= before)


def _share(of: Figures) -> str:
    return f"{of['accuracy']:.1f} ({of['low']:.1f}-{of['high']:.1f})"


def advice(
    pool: Pool,
    classes: Sequence[str],
    site: BeforeAfter,
    right: np.ndarray,
    ok: np.ndarray,
    with_half: np.ndarray | None,
) -> list[str]:
    """How many more fields of which class would help, in sentences.

    Args:
        pool: Home and site.
        classes: Their names.
        site: The figures at the site.
        right: ``bool [S]``: whose held-out answers are right at the site.
        ok: ``bool [S]``: which have the status ``ok``.
        with_half: As `right`, fitted on half of the site's fields; None where that was not measured.
    """
    if site["before"]["accuracy"] == 100:
        return [f"the bundle is right on all {len(right)} fields as it is: there is little to gain"]
    labels = pool.labels[pool.home :]
    counts = [int((labels == k).sum()) for k in range(len(classes))]
    lines = [
        f"{name}: no field; whether it is told at this site is not known"
        for name, count in zip(classes, counts, strict=True)
        if not count
    ]
    for k, name in enumerate(classes):
        own, more = labels == k, max(ENOUGH, 2 * counts[k]) - counts[k]
        wrong, unsure = int((own & ~right).sum()), int((own & right & ~ok).sum())
        if wrong or unsure:
            lines.append(f"{name}: of {counts[k]} fields {wrong} wrong, {unsure} not ok; {more} more would help")
    if with_half is not None:
        gained = 100 * (right.mean() - with_half.mean())
        lines.append(
            f"with half of the fields {100 * with_half.mean():.1f} % of the site are right, with all of them "
            f"{100 * right.mean():.1f} %: "
            + ("more fields help" if gained > 0 else "more of the same hardly help; look at labels, focus and scale")
        )
    return lines
