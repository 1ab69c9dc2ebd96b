"""What each pipeline's graph costs: multiply-accumulates, and the time of backbone and head for one image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .. import backbones
from ..graph import one_image, timing
from . import table
from .settings import Settings
from .table import Row

_QUERIES = 100


def fill(settings: Settings, rows: Sequence[Row], graphs: Mapping[str, onnx.ModelProto]) -> list[Row]:
    """Fill ``macs`` and ``graph_ms`` of the cells that lack them, and put the table in order.

    Milliseconds, FP32, on OpenVINO and this machine: the median of the backbone, all of them in turns, and the median
    of the first fold's head, added up.

    Args:
        settings: The study's.
        rows: The table.
        graphs: Backbones up to their taps, by name.

    Returns:
        The table.
    """
    wanting = [row for row in rows if row["graph_ms"] == "" and row["backbone"] in graphs]
    names = sorted({row["backbone"] for row in wanting})
    taken = dict(zip(names, timing.times("openvino", [graphs[name] for name in names]), strict=True)) if names else {}
    of_head = cache(_head_ms)
    for row in wanting:
        file = settings.out / "heads" / f"{table.cell(row).key}.onnx"
        places = backbones.places(backbones.load(row["backbone"]), row["tap"])
        row["macs"] = max(place.tap.macs for place in places)
        row["graph_ms"] = round(taken[row["backbone"]] + of_head(file), 3)
    return table.rewrite(settings.out, rows) if rows else []


def _head_ms(file: Path) -> float:
    request, shape = one_image.request(file)
    row = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ask: Callable[[], Any] = lambda: request.infer({0: row}, share_inputs=True)  # noqa: E731
    samples = []
    for _ in range(_QUERIES):
        start = time.perf_counter()
        ask()
        samples.append((time.perf_counter() - start) * 1e3)
    return statistics.median(samples)
