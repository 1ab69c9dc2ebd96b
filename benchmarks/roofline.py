"""What the machine allows, and where the time goes: python benchmarks/roofline.py BUNDLE... [--json FILE]

The roofline (Williams et al. 2009, doi 10.1145/1498765.1498785) of each bundle's OpenVINO graphs is the least time that
its convolutions can take. One convolution takes at least its multiply-accumulates at the highest rate that OpenVINO
reaches on any large convolution. It also takes at least the time to move its bytes: weights at the rate of copies in
memory, maps at that of copies in the cache. The sum is compared with the measured median, FP32 and INT8 in alternation,
and OpenVINO's profile shows what the time is spent on.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.export.graph import timing
from edge_all.export.graph.edit import IR_VERSION, Nodes
from edge_all.export.graph.facts import Convolution, convolutions

KIND: dict[str, np.dtype[np.float32] | np.dtype[np.uint8]] = {
    "fp32": np.dtype(np.float32),
    "int8": np.dtype(np.uint8),
}
"""Type of the values of a map, by precision."""

LARGE = ((256, 3, 56), (512, 3, 28), (512, 3, 14), (512, 1, 56), (1024, 1, 28))
"""Channels, kernel and size of the convolutions that the highest rate is measured with."""

LAYERS = 6
"""How many of them one graph has in a row."""

ROUNDS, SECONDS = 5, 0.5
COPIED = {"memory": 48 << 20, "cache": 256 << 10}
"""Bytes that each core copies: far more, and far less, than its cache holds."""


@dataclass(frozen=True)
class Peak:
    """The highest rates that were measured on this machine.

    Attributes:
        macs: Multiply-accumulates per second, by precision.
        bytes: Bytes read and written per second by all cores together, by where they are (a key of `COPIED`).
    """

    macs: dict[str, float]
    bytes: dict[str, float]

    def seconds(self, layer: Convolution, precision: str) -> float:
        """The least time that a convolution takes."""
        moving = layer.weights / self.bytes["memory"] + layer.maps / self.bytes["cache"]
        return max(layer.macs / self.macs[precision], KIND[precision].itemsize * moving)


@dataclass(frozen=True)
class Measured:
    """A graph's time.

    Attributes:
        p50_ms: Measured median for one image.
        roofline_ms: The least that its convolutions take.
        macs: Multiply-accumulates of its convolutions.
        profile_percent: Share of the time by kind of node, the largest first.
    """

    p50_ms: float
    roofline_ms: float
    macs: int
    profile_percent: dict[str, float]


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
    """Print two Markdown tables."""
    peak = _peak()
    rows = [_row(bundles.load(path), peak) for path in paths]
    rates = {kind: round(value / 1e9) for kind, value in peak.macs.items()}
    copied = {place: round(value / 1e9) for place, value in peak.bytes.items()}
    click.echo(f"highest rates: {rates} billion multiply-accumulates/s, {copied} GB/s copied\n")
    click.echo("| backbone, tap | FP32 ms | its roofline | INT8 ms | its roofline | FP32 / INT8 | of the rooflines |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in rows:
        fp32, int8 = row.fp32, row.int8
        click.echo(
            f"| {row.backbone}, {row.tap} | {fp32.p50_ms:.2f} | {fp32.roofline_ms:.2f} | {int8.p50_ms:.2f} "
            f"| {int8.roofline_ms:.2f} | {fp32.p50_ms / int8.p50_ms:.1f} | {fp32.roofline_ms / int8.roofline_ms:.1f} |"
        )
    kinds = sorted({kind for row in rows for kind in row.int8.profile_percent})
    click.echo(f"\n| backbone, tap: INT8's time, % | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for row in rows:
        shares = [f"{row.int8.profile_percent.get(kind, 0):.0f}" for kind in kinds]
        click.echo(f"| {row.backbone}, {row.tap} | {' | '.join(shares)} |")
    if report:
        rates_measured = {"macs_per_s": peak.macs, "bytes_per_s": peak.bytes}
        content = {"machine": machine.describe(), "peak": rates_measured, "rows": [asdict(row) for row in rows]}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _row(bundle: bundles.Bundle, peak: Peak) -> Row:
    graphs = [onnx.load_from_string(bundle.read(bundle.model_file("openvino", precision))) for precision in KIND]
    fp32, int8 = (
        _measured(graph, precision, p50, peak)
        for graph, precision, p50 in zip(graphs, KIND, timing.times("openvino", graphs), strict=True)
    )
    return Row(bundle.record["backbone"], bundle.record["tap"], fp32, int8)


def _measured(graph: onnx.ModelProto, precision: str, p50_ms: float, peak: Peak) -> Measured:
    layers = convolutions(graph)
    return Measured(
        p50_ms=round(p50_ms, 3),
        roofline_ms=round(1e3 * sum(peak.seconds(layer, precision) for layer in layers), 3),
        macs=sum(layer.macs for layer in layers),
        profile_percent=_profile(graph),
    )


def _profile(model: onnx.ModelProto) -> dict[str, float]:
    """Share of the time by kind of node, in percent, from OpenVINO's counters."""
    request, shape = timing.request(model.SerializeToString(), PERF_COUNT=True)
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    spent: Counter[str] = Counter()
    for turn in range(40):
        request.infer({0: image})
        if turn < 10:
            continue
        for node in request.profiling_info:
            kind = "Pointwise" if "1x1" in node.exec_type else node.node_type
            spent[_KINDS.get(kind, kind)] += node.real_time.total_seconds()
    whole = sum(spent.values())
    return {kind: round(100 * seconds / whole, 1) for kind, seconds in spent.most_common() if seconds > 0.005 * whole}


_KINDS = {
    "Convolution": "convolutions",
    "Pointwise": "1x1 convolutions",
    "GroupConvolution": "depthwise",
    "Subgraph": "elementwise",
    "ReduceMean": "pooling of the map",
}


def _peak() -> Peak:
    macs = {precision: max(_rate(*shape, precision) for shape in LARGE) for precision in KIND}
    return Peak(macs, {place: _copied(count) for place, count in COPIED.items()})


def _rate(channels: int, kernel: int, size: int, precision: str) -> float:
    """Multiply-accumulates per second that OpenVINO reaches on some equal convolutions."""
    chain = _chain(channels, kernel, size, precision)
    request, shape = timing.request(chain.SerializeToString())
    image = np.random.default_rng(0).integers(0, 255, shape).astype(KIND[precision])
    seconds = _fastest(lambda: request.infer({0: image}, share_inputs=True))
    return LAYERS * (channels * kernel * size) ** 2 / seconds


def _copied(count: int) -> float:
    """Bytes per second that all cores together read and write, in blocks of so many bytes."""
    cores = machine.usable_cores()
    pairs = [(np.ones(count, np.uint8), np.empty(count, np.uint8)) for _ in range(cores)]
    times = max(1, COPIED["memory"] // count)

    def copy(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(times):
            np.copyto(pair[1], pair[0])

    with ThreadPoolExecutor(cores) as pool:
        seconds = _fastest(lambda: list(pool.map(copy, pairs)))
    return 2 * cores * count * times / seconds


def _fastest(query: Callable[[], object]) -> float:
    """The smallest of some rounds' medians, in seconds."""
    medians = []
    for _ in range(ROUNDS):
        samples: list[float] = []
        end = time.perf_counter() + SECONDS / ROUNDS
        while not samples or time.perf_counter() < end:
            start = time.perf_counter()
            query()
            samples.append(time.perf_counter() - start)
        medians.append(statistics.median(samples))
    return min(medians)


def _chain(channels: int, kernel: int, size: int, precision: str) -> onnx.ModelProto:
    """Equal convolutions with a ReLU behind each, in FP32 or between QuantizeLinear and DequantizeLinear."""
    rng = np.random.default_rng(0)
    pads = [kernel // 2] * 4
    weights = rng.integers(-63, 64, (channels, channels, kernel, kernel), np.int8)
    scale = np.array(1 / (30 * kernel * channels**0.5), np.float32)
    quantized = precision == "int8"
    nodes = Nodes()
    activation = weight_scale = []
    if quantized:
        zero_point = nodes.constant("zero", np.array(0, np.uint8))
        activation = [nodes.constant("step", np.array(0.02, np.float32)), zero_point]
        weight_scale = [nodes.constant("scale", scale), nodes.constant("no", np.array(0, np.int8))]
    source = nodes.add("DequantizeLinear", ["image", *activation], "in") if quantized else "image"
    for i in range(LAYERS):
        reads = nodes.constant(f"w{i}", weights if quantized else weights * scale)
        if quantized:
            reads = nodes.add("DequantizeLinear", [reads, *weight_scale], f"w{i}/real")
        nodes.add("Conv", [source, reads], f"y{i}", pads=pads)
        source = nodes.add("Relu", [f"y{i}"], f"z{i}")
        if quantized:
            nodes.add("QuantizeLinear", [source, *activation], f"q{i}")
            source = nodes.add("DequantizeLinear", [f"q{i}", *activation], f"d{i}")
    nodes.add("GlobalAveragePool", [source], "out")
    kind = TensorProto.UINT8 if quantized else TensorProto.FLOAT
    image = helper.make_tensor_value_info("image", kind, ["N", channels, size, size])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", channels, 1, 1])
    graph = helper.make_graph(nodes.nodes, "chain", [image], [out], nodes.initializers())
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=IR_VERSION)


if __name__ == "__main__":
    main()
