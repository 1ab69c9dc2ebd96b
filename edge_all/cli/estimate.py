"""How long work will still take, told only when its rate is known, and the words for it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

Point = tuple[float, float]
"""A time in seconds, and the share of the work that was done then, from 0 to 1."""

_ENOUGH_SECONDS, _RECENT = 10.0, 0.25
"""The rate is that of the latest ten seconds or, later on, of the latest quarter of the time so far."""

_FEW_SECONDS, _ENOUGH_SHARE = 5.0, 0.05
"""The latest five seconds are enough if so much of the work was done in them."""

_LEAST_CHANGES = 4
"""Changes of the share that the rate is taken from, at least."""

_STEADY = 2.0
"""The rate is known if the two halves of that time differ by less than this factor, and no gap is as long as a half."""

_STALLED_SECONDS, _STALLED_GAPS = 5.0, 3.0
"""Without a change for so long, and for so many times the longest gap between two changes, the rate is not known."""


class Estimate:
    """The time that work will still take, from the share of it that is done and the rate of late.

    A fast start (cached results), a slow one (a model is compiled) and a stall make it silent until the rate is steady
    again.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._points: list[Point] = [(clock(), 0.0)]

    def update(self, done: int, total: int) -> None:
        """Take note of the units that are done and those that there are in all; fewer than before start it anew."""
        now, share = self._clock(), done / max(total, 1)
        if share < self._points[-1][1]:
            self._points = [(now, share)]
        elif share > self._points[-1][1]:
            closest = max(0.1, (now - self._points[0][0]) / 400)  # so that the list stays short
            if len(self._points) > 2 and now - self._points[-2][0] < closest:
                self._points.pop()
            self._points.append((now, share))

    def seconds(self) -> float | None:
        """The seconds that are left, or None while nothing true can be said."""
        points, now = list(self._points), self._clock()
        if points[-1][1] >= 1:
            return None
        long = _latest(points, max(_ENOUGH_SECONDS, _RECENT * _span(points)))
        if _span(long) >= _ENOUGH_SECONDS and _is_steady(long, now):
            return _left(long, now)
        short = _latest(points, _FEW_SECONDS)
        if _span(short) >= _FEW_SECONDS and _gained(short) >= _ENOUGH_SHARE and _is_steady(short, now):
            return _left(short, now)
        return None


def _latest(points: Sequence[Point], seconds: float) -> Sequence[Point]:
    """The points of the latest seconds, or more of them where these hold too few changes."""
    start = bisect_right(points, points[-1][0] - seconds, key=lambda point: point[0]) - 1
    return points[max(0, min(start, len(points) - 1 - _LEAST_CHANGES)) :]


def _span(points: Sequence[Point]) -> float:
    return points[-1][0] - points[0][0]


def _gained(points: Sequence[Point]) -> float:
    return points[-1][1] - points[0][1]


def _is_steady(points: Sequence[Point], now: float) -> bool:
    """Whether the two halves of the time are alike, without a long gap in it or after it."""
    if len(points) <= _LEAST_CHANGES:
        return False
    longest = max(after - before for (before, _), (after, _) in pairwise(points))
    if longest >= _span(points) / 2 or now - points[-1][0] > max(_STALLED_SECONDS, _STALLED_GAPS * longest):
        return False
    second = _gained_in_second_half(points)
    halves = _gained(points) - second, second
    return max(halves) < _STEADY * min(halves)


def _left(points: Sequence[Point], now: float) -> float:
    """The seconds that are left at the lowest of the rates that the points tell.

    The next change is on its way: it counts for the part of it that is due, and lowers the rate once it is late.
    """
    span, gained, waiting = _span(points), _gained(points), now - points[-1][0]
    due = gained / (len(points) - 1)
    rate = min(gained / span, 2 * _gained_in_second_half(points) / span, (gained + due) / (span + waiting))
    return max(1 - points[-1][1] - min(rate * waiting, due), 0.0) / rate


def _gained_in_second_half(points: Sequence[Point]) -> float:
    """What was done in the second half of the time, on a straight line from one change to the next."""
    middle = points[0][0] + _span(points) / 2
    after = bisect_right(points, middle, key=lambda point: point[0])
    (t0, before), (t1, share) = points[after - 1], points[after]
    return points[-1][1] - (before + (share - before) * (middle - t0) / (t1 - t0))


def done_of(done: int, total: int, unit: str | None) -> str:
    """How much is done: "12 of 60 images", or in percent where no unit is given."""
    return f"{done} of {total} {unit}" if unit else f"{100 * done // max(total, 1)} %"


def time_left(seconds: float | None, elapsed: float) -> str:
    """The time that is left, or the time so far where the former is not known."""
    return (
        f"{duration(elapsed, roughly=True)} so far"
        if seconds is None
        else f"about {duration(seconds, roughly=True)} left"
    )


def duration(seconds: float, *, roughly: bool = False) -> str:
    """A time for people; roughly is to five seconds, to the minute, or from an hour on to ten minutes."""
    if roughly and seconds < 57.5:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if not roughly and seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = (max(1, round(seconds / 60)), 0) if roughly else divmod(round(seconds), 60)
    if minutes >= 60:
        minutes = 10 * round(minutes / 10) if roughly else minutes
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if roughly else f"{minutes} min {rest} s"
