"""What answers: the classifier in a small thread pool, with a bound on what may wait, and figures of what was done."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from starlette.requests import Request

from edge_all import journal, probe
from edge_all.classifier import Classifier
from edge_all.drift import REQUESTS
from edge_all.errors import BundleError, ImageError
from edge_all.journal import Entry
from edge_all.live import Live
from edge_all.prediction import Prediction
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


_FOLLOW_SECONDS = 1.0
"""Between two looks whether the bundle was replaced, where no image comes."""


@dataclass(frozen=True)
class Given:
    """An answer.

    Attributes:
        prediction: The answer.
        classifier: What gave it; the bundle may be replaced at any time.
        drift: Score of the run of fields that ends with it (`edge_all.drift`).
    """

    prediction: Prediction
    classifier: Classifier
    drift: float | None

    def entry(self, file: str, size: int) -> Entry:
        """What the journal records of it.

        Args:
            file: What the image is called.
            size: How many bytes the file has.
        """
        return replace(journal.answered(self.classifier, file, size, self.prediction), drift=self.drift)


def shared(classifier: Classifier) -> Classifier:
    """The same classifier for several threads."""
    engine = _OneAtATime(classifier.engine)
    return Classifier(classifier.bundle, classifier.target, classifier.precision, engine)


class Service:
    """A classifier that follows its bundle, for many clients at once.

    Attributes:
        live: What answers, made by `shared`.
        figures: What was done so far.
        tell: Says in a line, where the server runs, what went wrong.
    """

    def __init__(self, live: Live, tell: Tell) -> None:
        self.tell = tell
        self.live = live
        self.figures = Figures()
        self._judged = live.classifier, _verdict(live.classifier)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="classify")
        self._waiting_bytes = 0

    @property
    def classifier(self) -> Classifier:
        """What answers now; a request that needs it twice keeps it."""
        return self.live.classifier

    def verdict(self, classifier: Classifier) -> Verdict | None:
        """How a classifier answered the probe; None where its bundle has no answers for it, or is being judged."""
        judged, verdict = self._judged
        return verdict if judged is classifier else None

    def refresh(self) -> Classifier:
        """Follow a bundle that was replaced; it takes time, so it is done in a thread of the pool."""
        self.live.refresh()
        classifier = self.live.classifier
        if self._judged[0] is not classifier:
            self._judged = classifier, _verdict(classifier)
        return classifier

    async def follow(self) -> None:
        """Look whether the bundle was replaced, until this is cancelled."""
        while True:
            await asyncio.sleep(_FOLLOW_SECONDS)
            try:
                await self.run(self.refresh)
            except Exception as error:  # the old one goes on answering
                self.tell(f"the bundle cannot be followed: {type(error).__name__}: {error}")

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

    async def classify(self, image: bytes | npt.NDArray[np.uint8], chosen: Classifier | None = None) -> Given:
        """Classify an image and count the answer.

        Args:
            image: An image file's bytes, or pixels in the size of the graph's input.
            chosen: What is to answer; None is the bundle that is there now.

        Raises:
            ImageError: It is not an image that can be classified.
        """
        start = time.perf_counter()

        def work() -> Given:
            classifier = chosen or self.refresh()
            if isinstance(image, bytes):
                prediction = classifier.classify(image, digest=True)
            else:
                prediction = classifier.classify_pixels(image)
            drift = self.live.runs.add(REQUESTS, classifier.bundle, prediction.deviation)
            return Given(prediction, classifier, drift)

        try:
            given = await self.run(work)
        except ImageError:
            self.figures.refused["image"] += 1
            raise
        self.figures.count(given.prediction, time.perf_counter() - start)
        return given

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
