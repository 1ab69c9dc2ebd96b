"""What cutting the unread channels saves: python benchmarks/cutting.py NAME=TAP=WEIGHTS... --data DIR [--json FILE]

Each backbone gets a head on 128 features by anova, fitted on every sixth image; both graphs are fused with it, and
timed in FP32 on OpenVINO, alternating. The probabilities are compared on 64 images.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

from edge_all import machine
from edge_all.export import backbones, features
from edge_all.export.assemble.cut import cut
from edge_all.export.assemble.fuse import fuse
from edge_all.export.assemble.verify import answers
from edge_all.export.dataset import Dataset, read
from edge_all.export.graph import timing, weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head.fit import HeadSpec, to_onnx

FEATURES, EVERY, COMPARED = 128, 6, 64


@dataclass(frozen=True)
class Row:
    """A backbone with a head, before and after the cut.

    Attributes:
        backbone: Its name.
        tap: Where its features are taken.
        features: How many features there are without selection.
        macs: Multiply-accumulates of the backbone.
        bytes: Of the backbone.
        p50_ms: Median time of the fused graph.
        max_difference: Largest difference of a probability.
    """

    backbone: str
    tap: str
    features: int
    macs: tuple[int, int]
    bytes: tuple[int, int]
    p50_ms: tuple[float, float]
    max_difference: float


@click.command()
@click.argument("cases", nargs=-1, required=True)
@click.option("--data", required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path))
def main(cases: tuple[str, ...], data: Path, report: Path | None) -> None:
    """Print a Markdown table."""
    everything = read(data)
    part = everything.subset(np.arange(len(everything)) % EVERY == 0)
    print("| backbone | tap | features | million MACs | MB | graph p50 ms | largest difference of a probability |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for case in cases:
        name, tap, weights_spec = case.split("=")
        row = _row(name, tap, weights_spec, part)
        rows.append(row)
        millions, megabytes = ([value / 1e6 for value in pair] for pair in (row.macs, row.bytes))
        print(
            f"| {row.backbone} | {row.tap} | {row.features} | {millions[0]:.1f} -> {millions[1]:.1f} "
            f"| {megabytes[0]:.2f} -> {megabytes[1]:.2f} | {row.p50_ms[0]:.2f} -> {row.p50_ms[1]:.2f} "
            f"| {row.max_difference:.1e} |",
            flush=True,
        )
    if report:
        content = {"machine": machine.describe(), "rows": [asdict(row) for row in rows]}
        report.write_text(json.dumps(content, indent=1) + "\n")


def _row(name: str, tap: str, weights_spec: str, data: Dataset) -> Row:
    backbone = backbones.load(name)
    graph = backbone_graph(backbone, weights.load(backbone, weights_spec, seed=0), tap_name=tap)
    rows = features.extract(graph, data, backbone.input_size)
    channels = rows.shape[1]
    head = HeadSpec(selector="anova", classifier="svm", count=min(FEATURES, channels), seed=0).fit(rows, data.labels)
    parts = cut(graph, head)
    graphs = [fuse(graph, to_onnx(head), name="x"), fuse(parts.backbone, parts.head, name="x")]
    uncut_ms, cut_ms = timing.times("openvino", graphs)
    images = list(features.decoded(data.paths[:COMPARED], backbone.input_size))
    uncut, pruned = (answers("cpu", fused.SerializeToString(), images).probabilities for fused in graphs)
    return Row(
        backbone=name,
        tap=tap,
        features=channels,
        macs=(parts.before.macs, parts.after.macs),
        bytes=(parts.before.bytes, parts.after.bytes),
        p50_ms=(round(uncut_ms, 3), round(cut_ms, 3)),
        max_difference=float(np.abs(uncut - pruned).max()),
    )


if __name__ == "__main__":
    main()
