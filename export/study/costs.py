"""What each pipeline's graph costs: multiply-accumulates, and the time of backbone and head for one image."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from .. import backbones
from ..graph import timing
from . import table
from .settings import Settings
from .table import Row

_QUERIES = 100


def fill(settings: Settings, rows: Sequence[Row], graphs: Mapping[str, onnx.ModelProto]) -> list[Row]:
    """Fill in ``macs`` and ``graph_ms`` of the cells that lack them, and sort the table.

    Times are of FP32 on OpenVINO and this machine: the median of the backbone, all backbones measured in alternation,
    plus the median of the first fold's head.

    Args:
        settings: The study's.
        rows: The table.
        graphs: Backbones up to their taps, by name.

    Returns:
        The table.
    """
    if not rows:
        return []
    names = sorted({row.cell.backbone for row in rows if row.graph_ms is None and row.cell.backbone in graphs})
    measured = timing.times("openvino", [graphs[name] for name in names]) if names else []
    backbone_ms = dict(zip(names, measured, strict=True))
    filled = [
        _with_costs(row, backbone_ms[row.cell.backbone], table.head_file(settings.out, row.cell))
        if row.graph_ms is None and row.cell.backbone in backbone_ms
        else row
        for row in rows
    ]
    return table.rewrite(settings.out, filled)


def _with_costs(row: Row, backbone_ms: float, head: Path) -> Row:
    places = backbones.places(backbones.load(row.cell.backbone), row.cell.tap)
    macs = max(place.tap.macs for place in places)
    return replace(row, macs=macs, graph_ms=round(backbone_ms + _head_ms(head), 3))


def _head_ms(file: Path) -> float:
    """Median time of a head for one image, in milliseconds."""
    request, shape = timing.request(file)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    samples = []
    for _ in range(_QUERIES):
        start = time.perf_counter()
        request.infer({0: features}, share_inputs=True)
        samples.append((time.perf_counter() - start) * 1e3)
    return statistics.median(samples)
