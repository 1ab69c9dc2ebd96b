"""What an adapted bundle must keep, and the table that says whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_all import intervals
from edge_all.intervals import Units
from edge_all.record import BeforeAfter, Figures, Outsiders

from ..head.evaluate import percent

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
    low, high = intervals.of_share(right, Units(groups.astype(np.int64), intervals.NEAR_DUPLICATES))
    return {
        "images": len(labels),
        "accuracy": percent(right.mean()),
        "low": low,
        "high": high,
        "ok": percent(ok.mean()),
        "wrong_ok": percent((ok & ~right).mean()),
    }


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


def fresh_checks(site: BeforeAfter, labels: np.ndarray, outsiders: Outsiders) -> list[Check]:
    """Likewise for a head on the site's images alone, which has no home.

    Args:
        site: The figures at the site.
        labels: ``int64 [S]``.
        outsiders: What became of them.
    """
    after, largest = site["after"], percent(np.bincount(labels).max() / len(labels))
    better = after["low"] > largest and after["accuracy"] > site["before"]["accuracy"]
    wanted = f"better, and surely more than {largest:.1f}, the share of one class"
    told = Check("site: right", _share(site["before"]), _share(after), wanted, better)
    return [told, _wrong_ok("site", site), _refused(outsiders)]


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
    labels: np.ndarray,
    classes: Sequence[str],
    site: BeforeAfter,
    told: tuple[np.ndarray, np.ndarray],
    with_half: np.ndarray | None,
) -> list[str]:
    """How many more fields of which class would help, in sentences.

    Args:
        labels: ``int64 [S]``, of the site's fields.
        classes: Their names.
        site: The figures at the site.
        told: ``bool [S]`` each: whose held-out answers are right, and which have the status ``ok``.
        with_half: Whose answers are right, fitted on half of the site's fields; None where that was not measured.
    """
    right, ok = told
    if site["before"]["accuracy"] == 100:
        return [f"the bundle is right on all {len(right)} fields as it is: there is little to gain"]
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
