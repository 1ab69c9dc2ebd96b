"""Estimates that are true, and what a log gets of a long job."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest

from edge_all.cli import output
from edge_all.cli.estimate import Estimate, done_of, duration, time_left

Said = list[tuple[float, float]]
"""The seconds that were really left, and those that were estimated."""


def simulate(steps: Iterable[tuple[float, int]]) -> Said:
    """Do steps of some seconds and units each on a clock of our own, and ask for an estimate twice a second."""
    steps = list(steps)
    total, end = sum(units for _, units in steps), sum(seconds for seconds, _ in steps)
    now, done = 0.0, 0
    estimate = Estimate(lambda: now)
    said: Said = []
    for seconds, units in steps:
        for _ in range(pauses := max(1, int(2 * seconds))):
            now += seconds / pauses
            if (left := estimate.seconds()) is not None:
                said.append((end - now, left))
        done += units
        estimate.update(done, total)
        if (left := estimate.seconds()) is not None:
            said.append((end - now, left))
    return said


def worst(said: Said) -> tuple[float, float]:
    """The lowest and the highest ratio of what was estimated and what was left, up to three seconds before the end."""
    ratios = [left / true for true, left in said if true > 3]
    return min(ratios), max(ratios)


def test_a_constant_rate_is_known_after_five_seconds() -> None:
    said = simulate([(0.1, 1)] * 1000)
    assert said[0][0] == pytest.approx(95, abs=1)
    assert worst(said) == pytest.approx((1, 1), abs=0.05)


def test_a_few_large_parts() -> None:
    """Twelve taps of half a minute each: the estimate goes down during a part, too."""
    said = simulate([(30, 1)] * 12)
    assert worst(said) == pytest.approx((1, 1), abs=0.05)
    assert len(said) > 400


@pytest.mark.parametrize("fast", [[(0.01, 1)] * 300, [(0.01, 300)]], ids=["fast", "cached"])
def test_a_fast_start_promises_nothing(fast: list[tuple[float, int]]) -> None:
    said = simulate([*fast, *[(0.2, 1)] * 700])
    assert worst(said)[0] > 0.8 and worst(said)[1] < 1.2


def test_a_slow_start_frightens_nobody() -> None:
    """The first of 1,044 units takes a minute and a half, and all others together half a minute."""
    said = simulate([(94, 1), *[(0.03, 1)] * 1043])
    assert said and max(left for _, left in said) < 30


def test_a_stall_makes_it_silent() -> None:
    now = 0.0
    estimate = Estimate(lambda: now)
    for done in range(1, 101):
        now += 0.1
        estimate.update(done, 1000)
    assert estimate.seconds() == pytest.approx(90, rel=0.05)
    now += 6
    assert estimate.seconds() is None


def test_noise_and_parts_that_grow() -> None:
    noisy = simulate((0.05 + 0.3 * (i * 7919 % 101) / 101, 1) for i in range(600))
    assert worst(noisy)[0] > 0.6 and worst(noisy)[1] < 1.6
    growing = simulate((0.05 + i / 1000, 1) for i in range(600))
    assert worst(growing)[1] < 1.2


def test_done_again_from_the_start() -> None:
    now = 0.0
    estimate = Estimate(lambda: now)
    for done in (*range(100), *range(100)):
        now += 0.1
        estimate.update(done + 1, 200)
    assert estimate.seconds() == pytest.approx(10, rel=0.1)
    estimate.update(200, 200)
    assert estimate.seconds() is None


def test_words_for_times() -> None:
    exactly = [duration(seconds) for seconds in (0.04, 59.94, 119.7, 252.3, 3725)]
    assert exactly == ["0.0 s", "59.9 s", "2 min 0 s", "4 min 12 s", "1 h 02 min"]
    roughly = [duration(seconds, roughly=True) for seconds in (0, 42, 58, 100, 3599, 5300)]
    assert roughly == ["5 s", "40 s", "1 min", "2 min", "1 h 00 min", "1 h 30 min"]
    assert time_left(100, 7) == "about 2 min left" and time_left(None, 7) == "5 s so far"
    assert done_of(12, 60, "images") == "12 of 60 images" and done_of(333, 1000, None) == "33 %"


def test_a_log_gets_a_line_for_a_step_and_one_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "_LOG_SECONDS", 0.05)
    console = output.console()
    with console.step("Extracting") as progress:
        progress(1, 4)
        time.sleep(0.12)
    console.tell("one thing more")
    shown = capsys.readouterr()
    assert not shown.out
    first, *_, last, told = shown.err.splitlines()
    assert first == "Extracting: 25 %, 5 s so far" and last.startswith("Extracting: 0.") and last.endswith(" s")
    assert told == "edge-all: one thing more"
    monkeypatch.undo()
    with console.step("Quick") as progress:
        progress(1, 1)
    assert len(capsys.readouterr().err.splitlines()) == 1
