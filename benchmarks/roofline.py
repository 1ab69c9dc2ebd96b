"""What the machine allows, and where the time goes: python benchmarks/roofline.py BUNDLE... [--json FILE]

The roofline (`peak`) of each bundle's OpenVINO graphs is compared with the measured median, FP32 and INT8 in
alternation. `layer_profile` shows what the time is spent on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import onnx
import peak as rates

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.export.graph import timing
from edge_all.export.graph.facts import convolutions


@dataclass(frozen=True)
class Measured:
    """A graph's time.

    Attributes:
        p50_ms: Measured median for one image.
        roofline_ms: The least that its convolutions take.
        macs: Multiply-accumulates of its convolutions.
    """

    p50_ms: float
    roofline_ms: float
    macs: int


@dataclass(frozen=True)
class Row:
    """A bundle's two OpenVINO graphs."""

    backbone: str
    tap: str
    fp32: Measured
    int8: Measured


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...], report: Path | None) -> None:
    """Print a Markdown table."""
    peak = rates.measure()
    rows = [_row(bundles.load(path), peak) for path in paths]
    highest = {kind: round(value / 1e9) for kind, value in peak.macs.items()}
    copied = {place: round(value / 1e9) for place, value in peak.bytes.items()}
    click.echo(f"highest rates: {highest} billion multiply-accumulates/s, {copied} GB/s copied\n")
    click.echo("| backbone, tap | FP32 ms | its roofline | INT8 ms | its roofline | FP32 / INT8 | of the rooflines |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in rows:
        fp32, int8 = row.fp32, row.int8
        click.echo(
            f"| {row.backbone}, {row.tap} | {fp32.p50_ms:.2f} | {fp32.roofline_ms:.2f} | {int8.p50_ms:.2f} "
            f"| {int8.roofline_ms:.2f} | {fp32.p50_ms / int8.p50_ms:.1f} | {fp32.roofline_ms / int8.roofline_ms:.1f} |"
        )
    if report:
        rates_measured = {"macs_per_s": peak.macs, "bytes_per_s": peak.bytes}
        content = {"machine": machine.describe(), "peak": rates_measured, "rows": [asdict(row) for row in rows]}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _row(bundle: bundles.Bundle, peak: rates.Peak) -> Row:
    graphs = [onnx.load_from_string(bundle.read(bundle.model_file("openvino", precision))) for precision in rates.KIND]
    fp32, int8 = (
        _measured(graph, precision, p50, peak)
        for graph, precision, p50 in zip(graphs, rates.KIND, timing.times("openvino", graphs), strict=True)
    )
    return Row(bundle.record["backbone"], bundle.record["tap"], fp32, int8)


def _measured(graph: onnx.ModelProto, precision: str, p50_ms: float, peak: rates.Peak) -> Measured:
    layers = convolutions(graph)
    return Measured(
        p50_ms=round(p50_ms, 3),
        roofline_ms=round(1e3 * sum(peak.seconds(layer, precision) for layer in layers), 3),
        macs=sum(layer.macs for layer in layers),
    )


if __name__ == "__main__":
    main()
