"""Runs of fields: whether the last ones of a source, together, look unlike the training images.

A changed lamp, stain, focus or magnification shows in a single field rarely, and in 20 neighbouring ones nearly always.
A bundle's graph gives every field a score for each change that is looked for, as a share of its limit
(`edge_all.export.head.drift`); the score of a run is the mean of its fields. Above 1 the run is unlike the training
images, and it is so until all means are below `BACK`.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_all.bundle import Bundle
from edge_all.progress import Tell
from edge_all.record import DriftRecord

BACK = 0.9

QUESTION = "stain, lamp or focus changed?"
"""What is asked where they do."""

REQUESTS = ""
"""The source of images that come in no folder."""


@dataclass(frozen=True)
class State:
    """The last fields of a source.

    Attributes:
        source: Folder, or `REQUESTS`.
        score: The largest mean over the run; above 1 it is unlike the training images.
        change: The change that it is most like.
        run: How many fields that are.
        over: Whether the source is unlike the training images now.
    """

    source: str
    score: float
    change: str
    run: int
    over: bool


class Runs:
    """The last fields of each source. Several threads may add to it."""

    def __init__(self, tell: Tell = lambda line: None) -> None:
        """Begin with no fields.

        Args:
            tell: Says that a source has become unlike the training images, and that it is like them again.
        """
        self._tell = tell
        self._lock = threading.Lock()
        self._last: dict[str, _Last] = {}
        self._states: dict[str, State] = {}

    def add(self, source: str, bundle: Bundle, deviation: Sequence[float]) -> float | None:
        """Add a field.

        Args:
            source: Where it comes from; fields of one source are judged together.
            bundle: What answered; another one than before begins anew.
            deviation: The prediction's.

        Returns:
            The score of the run that ends with this field; None where there is no run yet, or none is judged.
        """
        drift = bundle.drift
        if not drift or len(deviation) != len(drift["changes"]) or not math.isfinite(sum(deviation)):
            return None
        with self._lock:
            last = self._last.get(source)
            if last is None or last.digest != bundle.digest:
                last = self._last[source] = _Last(bundle.digest, drift)
                self._states.pop(source, None)
            score = last.add(deviation)
            if score is None:
                return None
            before = self._states.get(source)
            was_over = before is not None and before.over
            over = score > (BACK if was_over else 1)
            state = self._states[source] = State(source, score, last.change, drift["run"], over)
        if over != was_over:
            self._tell(f"{source}: {sentence(state)}" if source else sentence(state))
        return score

    def states(self) -> list[State]:
        """Every source that has had a run."""
        with self._lock:
            return list(self._states.values())


class _Last:
    """The last fields of one source under one bundle, and the sums of their scores."""

    def __init__(self, digest: str, drift: DriftRecord) -> None:
        self.digest = digest
        self.change = ""
        self._changes, self._run = drift["changes"], drift["run"]
        self._fields: deque[Sequence[float]] = deque()
        self._sums = [0.0] * len(self._changes)

    def add(self, deviation: Sequence[float]) -> float | None:
        self._fields.append(deviation)
        leaving = self._fields.popleft() if len(self._fields) > self._run else [0.0] * len(deviation)
        self._sums = [total + new - old for total, new, old in zip(self._sums, deviation, leaving, strict=True)]
        if len(self._fields) < self._run:
            return None
        most = max(self._sums)
        self.change = self._changes[self._sums.index(most)]
        return most / self._run


def sentence(state: State) -> str:
    """What a state means, for people."""
    if not state.over:
        return f"the last {state.run} fields look like the training images again"
    return f"the last {state.run} fields look unlike the training images (most like: {state.change}): {QUESTION}"
