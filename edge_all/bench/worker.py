"""One row of ``edge-all bench`` in a process of its own: lines of JSON on stdin, a reply to each on stdout.

The first line is the job, answered when the graph is loaded and warm. Then come turns, and at the end the request for
the figures. The process ends with its input.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from edge_all import bundle as bundles
from edge_all import machine, probe, self_check
from edge_all.bench.rows import Figures, Job, Latency, Reply
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier, start
from edge_all.errors import BundleError, EdgeAllError, ImageError
from edge_all.targets import EngineOptions

_WARM_UP = 10
"""Queries whose median is compared with that of the same number before them."""


def main() -> None:
    """Answer lines until the input ends."""
    measurement: Measurement | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            reply: Reply = {}
            if measurement is None:
                measurement = Measurement(message)
            elif "turn" in message:
                reply = {"share": measurement.turn(message["turn"])}
            else:
                reply = {"figures": measurement.figures(), "answers": measurement.answers}
        except EdgeAllError as error:
            reply = {"error": str(error)}
        print(json.dumps(reply), flush=True)


class Measurement:
    """The measurement of one row: load and warm up, then classify every file once, and go on until there is enough.

    Attributes:
        answers: Number of the class that each labelled file got so far, -1 for one that could not be classified.
    """

    def __init__(self, job: Job) -> None:
        started = time.perf_counter()
        self._bundle = bundles.load(Path(job["bundle"]))
        if self._bundle.digest != job["digest"]:
            raise BundleError(f"{job['bundle']}: another bundle was put there; measure it again")
        options = EngineOptions(job["target"], job["device"], job["threads"])
        loaded = start(self._bundle, options, job["precision"])
        self._load_ms = (time.perf_counter() - started) * 1e3
        self._classifier, self._verdict = self_check.check(loaded, options)
        self._job = job
        self._labelled = job["files"] is not None
        self._sources: list[Path] | list[bytes] = (
            _encoded_probe(self._bundle) if job["files"] is None else [Path(name) for name in job["files"]]
        )
        self._latency: list[float] = []
        self._graph: list[float] = []
        self.answers: list[int] = []
        self._statuses: Counter[str] = Counter()
        self._asked = 0
        self._seconds = 0.0
        _warm_up(self._classifier, _bytes(self._sources[0]))

    def turn(self, seconds: float) -> float:
        """Measure for about this long; return the part of the work that is done."""
        started = time.perf_counter()
        while (spent := time.perf_counter() - started) < seconds and self._share(spent) < 1:
            self._query(self._sources[self._asked % len(self._sources)])
            self._asked += 1
        self._seconds += time.perf_counter() - started
        return self._share(0.0)

    def figures(self) -> Figures:
        """What was measured; the command adds the accuracy, because it has the labels.

        Raises:
            ImageError: None of the files could be classified.
        """
        if not self._latency:
            first = self._job["files"][0] if self._job["files"] else "the first image of the probe"
            raise ImageError(f"{first} and the others: none of {len(self._sources)} could be read")
        verdict = self._verdict
        file = self._bundle.model_file(self._job["target"], self._job["precision"])
        return {
            "latency_ms": percentiles(self._latency),
            "graph_ms": percentiles(self._graph),
            "queries": len(self._latency),
            "load_ms": self._load_ms,
            "throughput_ips": 1e3 * len(self._latency) / sum(self._latency),
            "rss_mb": machine.peak_memory_mb(),
            "model_mb": self._bundle.record["files"][file]["bytes"] / 1e6,
            "engine": self._classifier.engine.description,
            "threads": self._job["threads"] or machine.usable_cores(),
            "probe": {"images": verdict.images, "same_label": verdict.same_label,
                      "max_difference": verdict.max_difference, "passed": verdict.passed},
            "statuses": dict(self._statuses) if self._labelled else None,
        }  # fmt: skip

    def _share(self, spent: float) -> float:
        """Part of the work that is done `spent` seconds into a turn: every file once, and enough queries or time."""
        once = self._asked / (len(self._sources) if self._labelled else 1)
        queries, seconds = self._job["queries"], self._job["seconds"]
        enough = max(
            len(self._latency) / queries if queries else 1.0, (self._seconds + spent) / seconds if seconds else 1.0
        )
        return min(once, enough, 1.0)

    def _query(self, source: Path | bytes) -> None:
        encoded = _bytes(source)
        answer = -1
        try:
            prediction = self._classifier.classify(encoded)
            self._latency.append(prediction.ms)
            self._graph.append(prediction.graph_ms)
            answer = self._bundle.classes.index(prediction.top)
            if self._asked < len(self._sources):
                self._statuses[prediction.status] += 1
        except ImageError:
            pass
        if self._labelled and self._asked < len(self._sources):
            self.answers.append(answer)


def percentiles(samples: list[float]) -> Latency:
    """Median, 90th and 99th percentile."""
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def _warm_up(classifier: Classifier, encoded: bytes) -> None:
    """Classify until the medians of two runs of ten differ by less than 5 %, for at most five seconds."""
    before, end = float("inf"), time.perf_counter() + 5
    while time.perf_counter() < end:
        try:
            now = statistics.median(classifier.classify(encoded).ms for _ in range(_WARM_UP))
        except ImageError:
            return
        if abs(now - before) < 0.05 * before:
            return
        before = now


def _encoded_probe(bundle: Bundle) -> list[bytes]:
    """The probe's images as JPEG files, to be timed where no images are given."""
    files = []
    for pixels in probe.images(bundle):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    return files


def _bytes(source: Path | bytes) -> bytes:
    """The file's bytes, read before the clock starts: latency is from encoded bytes to the label."""
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
