"""What cutting the unread channels saves: python benchmarks/cutting.py NAME=TAP=WEIGHTS... --data DIR [--json FILE]

Each backbone gets a head on 128 features by anova, fitted on every sixth image; both graphs are fused with it, and
timed in FP32 on OpenVINO, alternating. The probabilities are compared on 64 images.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from edge_all import machine
from edge_all.export import backbones, features
from edge_all.export.assemble.cut import cut
from edge_all.export.assemble.fuse import fuse
from edge_all.export.assemble.verify import probabilities
from edge_all.export.dataset import read
from edge_all.export.graph import timing, weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head.fit import fit_head, to_onnx

FEATURES, EVERY, COMPARED = 128, 6, 64


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
        name, tap, file = case.split("=")
        backbone = backbones.load(name)
        graph = backbone_graph(backbone, weights.load(backbone, file, seed=0), tap_name=tap)
        size = backbone.input_size
        found = features.extract(graph, part.paths, part.digests, size)
        head = fit_head(
            found, part.labels, selector="anova", classifier="svm", count=min(FEATURES, found.shape[1]), seed=0
        )
        made = cut(graph, head)
        graphs = [fuse(graph, to_onnx(head), name="x"), fuse(made.backbone, made.head, name="x")]
        ms = timing.times("openvino", graphs)
        images = list(features.decoded(part.paths[:COMPARED], size))
        given = [probabilities("cpu", graph.SerializeToString(), images) for graph in graphs]
        row = {
            "backbone": name,
            "tap": tap,
            "features": found.shape[1],
            "macs": [made.before.macs, made.after.macs],
            "bytes": [made.before.bytes, made.after.bytes],
            "p50_ms": [round(value, 3) for value in ms],
            "max_difference": float(np.abs(given[0] - given[1]).max()),
        }
        rows.append(row)
        millions, megabytes = ([value / 1e6 for value in pair] for pair in (row["macs"], row["bytes"]))
        print(
            f"| {name} | {tap} | {found.shape[1]} | {millions[0]:.1f} -> {millions[1]:.1f} "
            f"| {megabytes[0]:.2f} -> {megabytes[1]:.2f} | {ms[0]:.2f} -> {ms[1]:.2f} | {row['max_difference']:.1e} |",
            flush=True,
        )
    if report:
        report.write_text(json.dumps({"machine": machine.describe(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
