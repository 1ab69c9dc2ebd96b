"""Many images through one classifier, several at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from edge_all.classifier import GROUP, Classifier
from edge_all.errors import ImageError
from edge_all.prediction import Prediction

_AHEAD = 3
"""Groups that wait for each stream."""


def classify_all(
    classifier: Classifier, sources: Sequence[Path | bytes], streams: int = 1, *, digest: bool = False
) -> Generator[tuple[Path | bytes, Prediction | ImageError], None, None]:
    """Classify many images; with several streams, several at the same time.

    Args:
        classifier: Loaded with as many `streams`.
        sources: Image files, or their bytes.
        streams: How many threads classify.
        digest: Whether the predictions are to have the SHA-256 of the bytes.

    Yields:
        Each source in the order given, with its prediction or with what is wrong with it.
    """
    count = 1 if streams == 1 else max(1, min(GROUP, len(sources) // (_AHEAD * streams)))
    groups = [sources[i : i + count] for i in range(0, len(sources), count)]
    if streams == 1:
        for group in groups:
            yield from zip(group, classifier.classify_several(group, digest=digest), strict=True)
        return
    waiting: deque[tuple[Sequence[Path | bytes], Future[list[Prediction | ImageError]]]] = deque()
    pool = ThreadPoolExecutor(streams)
    try:
        for group in groups:
            waiting.append((group, pool.submit(classifier.classify_several, group, digest=digest)))
            while waiting and (waiting[0][1].done() or len(waiting) > _AHEAD * streams):
                first, future = waiting.popleft()
                yield from zip(first, future.result(), strict=True)
        while waiting:
            first, future = waiting.popleft()
            yield from zip(first, future.result(), strict=True)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
