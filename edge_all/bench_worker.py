"""One row of ``edge-all bench``, in a process of its own: a job as JSON on stdin, lines of JSON on stdout."""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from collections.abc import Iterator
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
    job = json.load(sys.stdin)
    try:
        _say(row=measure(job))
    except EdgeAllError as error:
        _say(error=str(error))


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Load, warm up, answer every file once, then go on until there are queries enough."""
    start = time.perf_counter()
    bundle = bundles.load(Path(job["bundle"]))
    loaded = classifier.start(bundle, job["target"], job["precision"], job["device"], job["threads"])
    load_ms = (time.perf_counter() - start) * 1e3

    sources = [Path(name) for name in job["files"]] if job["files"] else None
    stand_ins = None if sources else _encoded_probe(bundle)
    _warm_up(loaded, _bytes((sources or stand_ins or [])[0]))

    latency, graph, answers = [], [], []
    everything: list[Path] | list[bytes] = sources or stand_ins or []
    began = time.perf_counter()
    for count, source in enumerate(_again_and_again(everything)):
        over = time.perf_counter() - began > job["seconds"]
        if count >= (len(everything) if sources else 1) and (count >= job["queries"] or over):
            break
        answer = -1
        try:
            prediction = loaded.classify(_bytes(source))
            latency.append(prediction.ms)
            graph.append(prediction.graph_ms)
            answer = bundle.classes.index(prediction.label)
        except ImageError:
            pass
        if count < len(everything):
            answers.append(answer)
        if count % 50 == 0:
            _say(progress=[count, max(len(everything), job["queries"])])
    if not latency:
        raise ImageError(f"{sources and sources[0].parent}: none of its {len(everything)} images could be read")
    verdict = probe.check(loaded)
    model = bundle.record["files"][bundle.model_file(job["target"], job["precision"])]
    return {
        "latency_ms": percentiles(latency),
        "graph_ms": percentiles(graph),
        "queries": len(latency),
        "load_ms": load_ms,
        "throughput_ips": 1e3 * len(latency) / sum(latency),
        "rss_mb": machine.peak_memory_mb(),
        "model_mb": model["bytes"] / 1e6,
        "engine": loaded.engine.description,
        "threads": job["threads"],
        "probe": {"images": verdict.images, "same_label": verdict.same_label,
                  "max_difference": verdict.max_difference, "passed": verdict.passed},
        "answers": answers if sources else [],
    }  # fmt: skip


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


def _again_and_again(sources: list[Path] | list[bytes]) -> Iterator[Path | bytes]:
    while True:
        yield from sources


def _bytes(source: Path | bytes) -> bytes:
    """Read ahead of the clock: latency is from encoded bytes to label."""
    if isinstance(source, bytes):
        return source
    try:
        return source.read_bytes()
    except OSError:
        return b""


def _say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
