"""One row of ``edge-all bench``, in a process of its own: lines of JSON on stdin, an answer to each on stdout.

First the job, answered when it is loaded and warm; then turns; then the row is asked for. End of input ends it.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_all import bundle as bundles
from edge_all import classifier, machine, probe
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.errors import EdgeAllError, ImageError

_WARM_UP = 10  # queries whose median is compared with that of the ten before


def main() -> None:
    row: Row | None = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if row is None:
                row = Row(message)
                answer: dict[str, Any] = {"loaded": True}
            elif "turn" in message:
                answer = {"share": row.turn(message["turn"])}
            else:
                answer = {"row": row.finish()}
        except EdgeAllError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


class Row:
    """Load and warm up; then answer every file once, and go on until there are queries enough."""

    def __init__(self, job: dict[str, Any]) -> None:
        start = time.perf_counter()
        self._bundle = bundles.load(Path(job["bundle"]))
        self._loaded = classifier.start(self._bundle, job["target"], job["precision"], job["device"], job["threads"])
        self._load_ms = (time.perf_counter() - start) * 1e3
        self._job = job
        self._labelled = job["files"] is not None
        self._sources: list[Path] | list[bytes] = (
            [Path(name) for name in job["files"]] if self._labelled else _encoded_probe(self._bundle)
        )
        self._latency: list[float] = []
        self._graph: list[float] = []
        self._answers: list[int] = []
        self._statuses: Counter[str] = Counter()
        self._asked = 0
        self._seconds = 0.0
        _warm_up(self._loaded, _bytes(self._sources[0]))

    def turn(self, seconds: float) -> float:
        """Measure for so long; gives the share that is done."""
        began = time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds and self._share(spent) < 1:
            self._query(self._sources[self._asked % len(self._sources)])
            self._asked += 1
        self._seconds += time.perf_counter() - began
        return self._share(0.0)

    def finish(self) -> dict[str, Any]:
        """The row, without what the accuracy needs the labels for."""
        if not self._latency:
            raise ImageError(f"{self._job['files'][0]} and the others: none of {len(self._sources)} could be read")
        verdict = probe.check(self._loaded)
        file = self._bundle.model_file(self._job["target"], self._job["precision"])
        return {
            "latency_ms": percentiles(self._latency),
            "graph_ms": percentiles(self._graph),
            "queries": len(self._latency),
            "load_ms": self._load_ms,
            "throughput_ips": 1e3 * len(self._latency) / sum(self._latency),
            "rss_mb": machine.peak_memory_mb(),
            "model_mb": self._bundle.record["files"][file]["bytes"] / 1e6,
            "engine": self._loaded.engine.description,
            "threads": self._job["threads"] or machine.usable_cores(),
            "probe": {"images": verdict.images, "same_label": verdict.same_label,
                      "max_difference": verdict.max_difference, "passed": verdict.passed},
            "statuses": dict(self._statuses) if self._labelled else None,
            "answers": self._answers if self._labelled else [],
        }  # fmt: skip

    def _share(self, spent: float) -> float:
        """Every labelled image once, and queries or seconds enough."""
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
            prediction = self._loaded.classify(encoded)
            self._latency.append(prediction.ms)
            self._graph.append(prediction.graph_ms)
            answer = self._bundle.classes.index(prediction.label)
            if self._asked < len(self._sources):
                self._statuses[prediction.status] += 1
        except ImageError:
            pass
        if self._asked < len(self._sources):
            self._answers.append(answer)


def percentiles(samples: list[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile."""
    p50, p90, p99 = np.percentile(samples, [50, 90, 99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def _warm_up(loaded: Classifier, encoded: bytes) -> None:
    """Query until two runs of ten differ by under 5 % in their medians, for at most five seconds."""
    before, end = float("inf"), time.perf_counter() + 5
    while time.perf_counter() < end:
        try:
            now = statistics.median(loaded.classify(encoded).ms for _ in range(_WARM_UP))
        except ImageError:
            return
        if abs(now - before) < 0.05 * before:
            return
        before = now


def _encoded_probe(bundle: Bundle) -> list[bytes]:
    """The probe's inputs as JPEG files, for timing where no images are given."""
    files = []
    for pixels in probe.images(bundle):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    return files


def _bytes(source: Path | bytes) -> bytes:
    """Read ahead of the clock: latency is from encoded bytes to label."""
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError:
        return b""


if __name__ == "__main__":
    main()
