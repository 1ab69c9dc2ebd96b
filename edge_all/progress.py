"""Progress and notices of long work: the work reports through these, and whoever started it decides what is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class Progress(Protocol):
    """Called with the units of work that are done and those that there are in all."""

    def __call__(self, done: int, total: int) -> None: ...


Tell = Callable[[str], None]
"""Says one line to the user."""

Step = Callable[[str], AbstractContextManager[Progress]]
"""Opens a step of the work under a title."""


@dataclass(frozen=True)
class Console:
    """Where a long job reports to.

    Attributes:
        step: Opens a step under a title and gives its progress.
        tell: Says one line: what was measured, or what did not go as asked.
    """

    step: Step
    tell: Tell


def ignore(done: int, total: int) -> None:
    """The progress of work that nobody watches."""


_UNITS = 10_000


def split(progress: Progress, weights: Sequence[float]) -> list[Progress]:
    """Divide a progress among parts of the work that are done one after the other.

    Args:
        progress: Of the whole.
        weights: How much work each part is, in any unit, such as images times copies.

    Returns:
        A progress for each part, which moves the whole by the part's share.
    """
    whole = sum(weights)
    starts = [sum(weights[:i]) for i in range(len(weights))]

    def part(start: float, weight: float) -> Progress:
        def report(done: int, total: int) -> None:
            progress(round(_UNITS * (start + weight * done / max(total, 1)) / whole), _UNITS)

        return report

    return [part(start, weight) for start, weight in zip(starts, weights, strict=True)]


class Notices:
    """Says what is wrong with something once, and when it is well again."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._said: dict[object, str] = {}

    def say(self, what: object, line: str) -> None:
        """Say a line about something, unless it was the last line about it."""
        if self._said.get(what) != line:
            self._said[what] = line
            self._tell(line)

    def well(self, what: object, line: str = "") -> None:
        """Say that something is well again, if it was said that it is not; an empty line is not said."""
        if self._said.pop(what, None) and line:
            self._tell(line)

    def is_wrong(self, what: object) -> bool:
        """Whether something was said, and is not well again."""
        return what in self._said
