"""The referral threshold, raised until changed images are answered safely too.

Images as they are do not show what a changed lamp, stain or focus does to an answer. So every training image's changed
copies are answered by the head of its fold, and the threshold is raised until at most `RISK` percent of the copies with
status ``ok`` have a wrong label: selection with guaranteed risk (Geifman and El-Yaniv 2017, arXiv 1705.08500), on the
training copies and without their bound. It stops where `LEAST_COVERAGE` percent of the unchanged images are answered.
"""

from __future__ import annotations

import numpy as np

from edge_all.record import Familiarity, Referral, Risk

from ..head import evaluate, familiarity
from ..head.reference import Reference
from .familiar import checks_of
from .familiar import limits as limits_of

RISK = 1.2
"""Percent of the changed copies with status ``ok`` that may have a wrong label."""

LEAST_COVERAGE = 93.5
"""Percent of the images as they are that are answered at least."""


def referral(by_coverage: Referral, reference: Reference, limits: Familiarity) -> Referral:
    """Raise the threshold.

    Args:
        by_coverage: What would be referred otherwise.
        reference: The FP32 pipeline; where it has no copies, nothing is changed.
        limits: Beyond these a picture is unfamiliar.
    """
    if not reference.rows.copies:
        return by_coverage
    sure, wrong, familiar = _copies(reference, limits)
    labels, plain = reference.data.labels, reference.answers[reference.headline]
    most = max(float(np.quantile(plain.max(1), 1 - LEAST_COVERAGE / 100)), by_coverage["threshold"])
    threshold = float(np.clip(safe(sure[familiar], wrong[familiar], RISK), by_coverage["threshold"], most))
    ok = familiar & (sure >= threshold)
    risk: Risk = {
        "asked": RISK,
        "ok": evaluate.percent(ok.mean()),
        "wrong": evaluate.percent(wrong[ok].mean()) if ok.any() else 0.0,
    }
    return {**by_coverage, **familiarity.answered(labels, plain, threshold), "changed": risk}


def safe(sure: np.ndarray, wrong: np.ndarray, risk: float) -> float:
    """The smallest threshold at which at most `risk` percent of what is answered are wrong, from there on.

    Args:
        sure: Largest probability of each image, ``[N]``.
        wrong: ``bool [N]``: whose label is wrong.
        risk: In percent.

    Returns:
        From 0 to 1; 1 where no threshold is safe.
    """
    order = np.argsort(-sure, kind="stable")
    share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    safe_counts = np.flatnonzero(100 * share <= risk)
    if not len(safe_counts):
        return 1.0
    return 0.0 if safe_counts[-1] == len(order) - 1 else float(sure[order[safe_counts[-1]]])


def _copies(reference: Reference, limits: Familiarity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each copy, by head and Gaussians of its image's fold: largest probability, whether wrong, whether familiar."""
    rows, labels = reference.rows, reference.data.labels
    folds, heads = reference.splits[reference.headline], reference.heads[reference.headline]
    copied = np.ones(len(labels), bool) if rows.copied is None else rows.copied
    checks, most = checks_of(reference), limits_of(limits)
    sure, wrong, familiar = [], [], []
    for copy in rows.copies:
        answers = evaluate.answer(heads, copy[copied], folds[copied])
        sure.append(answers.max(1))
        wrong.append(answers.argmax(1) != labels[copied])
        distances = checks.distances(heads, copy[copied], folds[copied])
        familiar.append(familiarity.within(distances, most))
    return np.concatenate(sure), np.concatenate(wrong), np.concatenate(familiar)
