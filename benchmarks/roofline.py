"""What the machine allows, and where the time goes: python benchmarks/roofline.py BUNDLE... [--json FILE]

The roofline (Williams et al. 2009, doi 10.1145/1498765.1498785) of each bundle's OpenVINO graphs: every convolution
takes at least its multiply-accumulates at the highest rate that OpenVINO reaches here on any large convolution, and at
least its bytes, weights at the rate that memory is copied at, maps at the caches'. The sum is set beside the measured
median, FP32 and INT8 alternating, and the profile tells what the time is spent on.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.export.graph import one_image, timing
from edge_all.export.graph.facts import Convolution, convolutions

KIND = {"fp32": np.dtype(np.float32), "int8": np.dtype(np.uint8)}

LARGE = ((256, 3, 56), (512, 3, 28), (512, 3, 14), (512, 1, 56), (1024, 1, 28))
"""Channels, kernel and size of the convolutions that the highest rate is sought with."""

ROUNDS, SECONDS = 5, 0.5
COPIED = {"memory": 48 << 20, "cache": 256 << 10}
"""Bytes that each core copies, far more and far less than its cache holds."""


@dataclass(frozen=True)
class Peak:
    """What the machine reached.

    Attributes:
        macs: Multiply-accumulates a second, by precision.
        bytes: Copied a second, read and written, with all cores, by where they are.
    """

    macs: dict[str, float]
    bytes: dict[str, float]

    def seconds(self, layer: Convolution, precision: str) -> float:
        """What a convolution takes at least."""
        width = KIND[precision].itemsize
        moved = layer.weights / self.bytes["memory"] + layer.maps / self.bytes["cache"]
        return max(layer.macs / self.macs[precision], width * moved)


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--json", "report", type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...], report: Path | None) -> None:
    """Print two Markdown tables."""
    peak = _peak()
    rows = [_row(bundles.load(path), peak) for path in paths]
    rates = {kind: round(value / 1e9) for kind, value in peak.macs.items()}
    copied = {place: round(value / 1e9) for place, value in peak.bytes.items()}
    click.echo(f"highest rates: {rates} billion multiply-accumulates/s, {copied} GB/s copied\n")
    click.echo("| backbone, tap | FP32 ms | its roofline | INT8 ms | its roofline | FP32 / INT8 | of the rooflines |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in rows:
        fp32, int8 = row["fp32"], row["int8"]
        click.echo(
            f"| {row['backbone']}, {row['tap']} | {fp32['p50_ms']:.2f} | {fp32['roofline_ms']:.2f} "
            f"| {int8['p50_ms']:.2f} | {int8['roofline_ms']:.2f} | {fp32['p50_ms'] / int8['p50_ms']:.1f} "
            f"| {fp32['roofline_ms'] / int8['roofline_ms']:.1f} |"
        )
    kinds = sorted({kind for row in rows for kind in row["int8"]["profile_percent"]})
    click.echo(f"\n| backbone, tap: INT8's time, % | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for row in rows:
        shares = [f"{row['int8']['profile_percent'].get(kind, 0):.0f}" for kind in kinds]
        click.echo(f"| {row['backbone']}, {row['tap']} | {' | '.join(shares)} |")
    if report:
        found = {"macs_per_s": peak.macs, "bytes_per_s": peak.bytes}
        content = {"machine": machine.describe(), "peak": found, "rows": rows}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _row(bundle: bundles.Bundle, peak: Peak) -> dict[str, Any]:
    record = bundle.record
    graphs = {
        precision: onnx.load_from_string(bundle.read(bundle.model_file("openvino", precision))) for precision in KIND
    }
    medians = timing.times("openvino", list(graphs.values()))
    row: dict[str, Any] = {"backbone": record["backbone"], "tap": record["tap"]}
    for (precision, graph), p50 in zip(graphs.items(), medians, strict=True):
        layers = convolutions(graph)
        row[precision] = {
            "p50_ms": round(p50, 3),
            "roofline_ms": round(1e3 * sum(peak.seconds(layer, precision) for layer in layers), 3),
            "macs": sum(layer.macs for layer in layers),
            "profile_percent": _profile(graph),
        }
    return row


def _profile(model: onnx.ModelProto) -> dict[str, float]:
    """Share of the time by kind of node, in percent, as OpenVINO's counters give it."""
    request, shape = one_image.request(model.SerializeToString(), PERF_COUNT=True)
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    spent: Counter[str] = Counter()
    for turn in range(40):
        request.infer({0: image})
        if turn < 10:
            continue
        for node in request.profiling_info:
            kind = "pixel by pixel" if "1x1" in node.exec_type else node.node_type
            spent[_KINDS.get(kind, kind)] += node.real_time.total_seconds()
    whole = sum(spent.values())
    return {kind: round(100 * seconds / whole, 1) for kind, seconds in spent.most_common() if seconds > 0.005 * whole}


_KINDS = {
    "Convolution": "convolutions",
    "pixel by pixel": "1x1 convolutions",
    "GroupConvolution": "depthwise",
    "Subgraph": "elementwise",
    "ReduceMean": "pooling of the map",
}


def _peak() -> Peak:
    rates: dict[str, float] = {}
    layers = 6
    for precision in KIND:
        for channels, kernel, size in LARGE:
            chain = _chain(channels, kernel, size, layers, precision)
            request, shape = one_image.request(chain.SerializeToString())
            image = np.random.default_rng(0).integers(0, 255, shape).astype(KIND[precision])
            seconds = _fastest(lambda request=request, image=image: request.infer({0: image}, share_inputs=True))
            macs = layers * (channels * kernel * size) ** 2
            rates[precision] = max(rates.get(precision, 0.0), macs / seconds)
    return Peak(rates, {place: _copied(count) for place, count in COPIED.items()})


def _copied(count: int) -> float:
    """Bytes a second that all cores together copy, in blocks of so many."""
    cores = machine.usable_cores()
    pairs = [(np.ones(count, np.uint8), np.empty(count, np.uint8)) for _ in range(cores)]
    times = max(1, COPIED["memory"] // count)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(times):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(cores) as pool:
        seconds = _fastest(lambda: list(pool.map(copy, pairs)))
    return 2 * cores * count * times / seconds


def _fastest(ask: Callable[[], Any]) -> float:
    """The least of some rounds' medians, in seconds."""
    medians = []
    for _ in range(ROUNDS):
        samples = []
        end = time.perf_counter() + SECONDS / ROUNDS
        while not samples or time.perf_counter() < end:
            start = time.perf_counter()
            ask()
            samples.append(time.perf_counter() - start)
        medians.append(statistics.median(samples))
    return min(medians)


def _chain(channels: int, kernel: int, size: int, layers: int, precision: str) -> onnx.ModelProto:
    """Equal convolutions with a ReLU behind each, in FP32 or between QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(0)
    around = [kernel // 2] * 4
    weights = rng.integers(-63, 64, (channels, channels, kernel, kernel), np.int8)
    scale = float(1 / (30 * kernel * channels**0.5))
    arrays = {"scale": np.float32(scale), "no": np.int8(0), "step": np.float32(0.02), "zero": np.uint8(0)}
    nodes, source = [], "image"
    quantized = precision == "int8"
    if quantized:
        nodes.append(helper.make_node("DequantizeLinear", [source, "step", "zero"], ["in"]))
        source = "in"
    for i in range(layers):
        arrays[f"w{i}"] = weights if quantized else (weights * scale).astype(np.float32)
        reads = f"w{i}"
        if quantized:
            reads = f"w{i}/real"
            nodes.append(helper.make_node("DequantizeLinear", [f"w{i}", "scale", "no"], [reads]))
        nodes.append(helper.make_node("Conv", [source, reads], [f"y{i}"], pads=around))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"z{i}"]))
        source = f"z{i}"
        if quantized:
            nodes.append(helper.make_node("QuantizeLinear", [source, "step", "zero"], [f"q{i}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{i}", "step", "zero"], [f"d{i}"]))
            source = f"d{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["out"]))
    read = {name for node in nodes for name in node.input}
    shape = ["N", channels, size, size]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8 if quantized else TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", channels, 1, 1])
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items() if name in read]
    graph = helper.make_graph(nodes, "chain", [image], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


if __name__ == "__main__":
    main()
