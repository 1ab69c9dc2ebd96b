"""What answers: the classifier in a small thread pool, with a bound on what may wait, and figures of what was done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from starlette.requests import Request

from edge_all import journal, probe
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier, Prediction
from edge_all.errors import BundleError, ImageError
from edge_all.journal import Entry
from edge_all.probe import Verdict
from edge_all.progress import Tell
from edge_all.serve.replies import busy
from edge_all.serve.security import MAX_BODY
from edge_all.targets import Answers, Engine

Result = TypeVar("Result")

_THREADS = 2
"""One image is decoded while another one is answered."""

MAX_WAITING = 32
"""Requests in hand; further ones are refused."""

MAX_WAITING_BYTES = 4 * MAX_BODY
"""Bytes of their bodies together."""


class Service:
    """A loaded classifier, for many clients at once.

    Attributes:
        bundle: The bundle.
        classifier: Its graph; several threads may call it.
        verdict: How it answered the probe at the start; None where the bundle has no answers for it.
        figures: What was done so far.
        tell: Says in a line, where the server runs, what went wrong.
    """

    def __init__(self, classifier: Classifier, tell: Tell) -> None:
        self.tell = tell
        self.bundle: Bundle = classifier.bundle
        self.classifier = Classifier(
            classifier.bundle, classifier.target, classifier.precision, _OneAtATime(classifier.engine)
        )
        self.verdict = _verdict(classifier)
        self.figures = Figures()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="classify")
        self._waiting_bytes = 0

    @contextmanager
    def place(self, request: Request) -> Iterator[None]:
        """Room for a request that an image is decoded for, from before its body is read until it is answered.

        Raises:
            HTTPException: 503, there is none now.
        """
        length = request.headers.get("content-length", "")
        unknown = 0 if request.method == "GET" else MAX_BODY
        size = min(int(length[:20]), MAX_BODY) if length.isdecimal() else unknown
        if self.figures.waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES:
            self.figures.refused["busy"] += 1
            raise busy("too many images are waiting; try again soon")
        self.figures.waiting += 1
        self._waiting_bytes += size
        try:
            yield
        finally:
            self.figures.waiting -= 1
            self._waiting_bytes -= size

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do something that takes time in a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def classify(self, image: bytes | npt.NDArray[np.uint8]) -> Prediction:
        """Classify an image file's bytes, or pixels in the size of the graph's input, and count the answer.

        Raises:
            ImageError: It is not an image that can be classified.
        """
        start = time.perf_counter()
        classifier = self.classifier
        try:
            prediction = await self.run(
                lambda: (
                    classifier.classify(image, digest=True)
                    if isinstance(image, bytes)
                    else classifier.classify_pixels(image)
                )
            )
        except ImageError:
            self.figures.refused["image"] += 1
            raise
        self.figures.count(prediction, time.perf_counter() - start)
        return prediction

    def answer(self, name: str, prediction: Prediction) -> dict[str, object]:
        """An answer as `edge-all classify --json` prints it."""
        return {"file": name, **self.classifier.trace(prediction)}

    def entry(self, name: str, size: int, prediction: Prediction) -> Entry:
        """An answer as the journal keeps it."""
        return journal.answered(self.classifier, name, size, prediction)

    def close(self) -> None:
        """End the threads, once they have done what they are doing."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Figures:
    """Counts since the start.

    Attributes:
        started: When it was, in seconds since 1970.
        answers: Answers by status.
        refused: Refusals by reason: ``image`` or ``busy``.
        seconds: What all answers took together, waiting included.
        waiting: Requests with an image that are in hand now.
    """

    def __init__(self) -> None:
        self.started = time.time()
        self.answers: Counter[str] = Counter(ok=0, refer=0, unfamiliar=0)
        self.refused: Counter[str] = Counter(image=0, busy=0)
        self.seconds = 0.0
        self.waiting = 0

    def count(self, prediction: Prediction, seconds: float) -> None:
        """Count an answer."""
        self.answers[prediction.status] += 1
        self.seconds += seconds

    def count_entry(self, entry: Entry) -> None:
        """Count what a watched folder gave."""
        if entry.status == "refused":
            self.refused["image"] += 1
        else:
            self.answers[entry.status] += 1


class _OneAtATime:
    """An engine that several threads may call: it was opened for one image at a time, and answers it soonest so."""

    def __init__(self, engine: Engine) -> None:
        self.description = engine.description
        self.cached = engine.cached
        self._engine = engine
        self._lock = threading.Lock()

    def run(self, images: npt.NDArray[np.uint8]) -> Answers:
        with self._lock:
            return self._engine.run(images)


def _verdict(classifier: Classifier) -> Verdict | None:
    try:
        return probe.check(classifier)
    except BundleError:
        return None
