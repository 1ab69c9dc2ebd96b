"""The referral threshold under changes: by hand on few answers, and on a pipeline whose copies are harder."""

from __future__ import annotations

import numpy as np
import pytest

from edge_all.export.assemble import risk


def test_the_threshold_is_the_smallest_safe_one() -> None:
    sure = np.array([0.99, 0.95, 0.9, 0.8, 0.7])
    wrong = np.array([False, False, True, False, True])
    assert risk.safe(sure, wrong, risk=0) == 0.95
    assert risk.safe(sure, wrong, risk=25) == 0.8, "one of four is wrong"
    assert risk.safe(sure, wrong, risk=40) == 0.0, "all may be answered"
    assert risk.safe(sure, np.ones(5, bool), risk=10) == 1.0, "nothing is safe"


@pytest.mark.parametrize("allowed", [1, 5, 20])
def test_what_is_answered_keeps_the_risk(allowed: float) -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.3, 1, 5000)
    wrong = rng.uniform(size=5000) > sure
    threshold = risk.safe(sure, wrong, allowed)
    answered = sure >= threshold
    assert 100 * wrong[answered].mean() <= allowed + 1e-9
    lower = sure >= threshold - 0.02
    assert 100 * wrong[lower].mean() > allowed - 1.5, "not higher than need be"
