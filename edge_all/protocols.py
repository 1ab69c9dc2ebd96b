"""The split protocols of a cross-validation, by name, and which of them to go by."""

from __future__ import annotations

from collections.abc import Iterable

PROTOCOLS = ("random", "grouped", "block")
"""Those that every data set can be split by."""

GIVEN_GROUPS = "given_groups"
"""The one for images whose patients or slides are known."""

MEANINGS = {
    "random": "images at random; near-duplicates leak from training into test",
    "grouped": "near-duplicate images kept on one side",
    "block": "contiguous runs of each class's files: the nearest to a split by slide, if numbered as taken",
    GIVEN_GROUPS: "images of one given group (a patient or a slide) kept on one side, near-duplicates of them too",
}
"""How images are divided into folds, by protocol."""


def headline(protocols: Iterable[str]) -> str:
    """The protocol whose figures count, of those that were measured: the nearest to images of the next patient.

    It is `GIVEN_GROUPS` where groups were given, else ``block``, and where that is missing, the first by name.
    """
    measured = sorted(protocols)
    return next((name for name in (GIVEN_GROUPS, "block") if name in measured), measured[0])
