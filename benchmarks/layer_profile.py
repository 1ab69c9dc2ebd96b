"""Where an INT8 backbone's time goes, layer by layer: layer_profile.py NAME=TAP[=WEIGHTS]... --data DIR

Each backbone is quantized up to the tap and run by ONNX Runtime and by OpenVINO with their own profilers. For each
layer: microseconds, multiply-accumulates a second, and the share of the roofline (`peak`) that it reaches. Profiling
itself costs a few microseconds a layer, so the sums are above what an answer takes.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime as ort
import peak as rates
from quantized import quantized

from edge_all import machine
from edge_all.export.graph import timing
from edge_all.export.graph.facts import Convolution, convolutions

_RUNS, _WARM = 60, 10

_SUFFIX = re.compile(r"(_token_\d+)?_kernel_time$|/WithoutBiases$")
"""What the engines add to the name of a convolution."""

Times = dict[str, tuple[str, float]]
"""Kind of node and microseconds, by name."""


@dataclass(frozen=True)
class Layer:
    """A node as an engine ran it.

    Attributes:
        name: Of the node.
        kind: Kind of convolution, or the engine's name of the operator.
        us: Median of its microseconds.
        macs: Multiply-accumulates; 0 where it is no convolution.
        roofline: Share of the roofline that it reaches; 0 where it is no convolution.
    """

    name: str
    kind: str
    us: float
    macs: int = 0
    roofline: float = 0.0


@dataclass(frozen=True)
class Row:
    """A backbone in an engine."""

    backbone: str
    tap: str
    engine: str
    layers: list[Layer]


@click.command(help=__doc__)
@click.argument("cases", nargs=-1, required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="One folder for each class.")
@click.option("--slowest", default=8, show_default=True, help="How many layers are shown by name.")
@click.option("--keep", type=click.Path(path_type=Path), help="Folder for the quantized graphs.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures of all layers to a file.")
def main(cases: tuple[str, ...], data: Path, slowest: int, keep: Path | None, report: Path | None) -> None:
    """Print two Markdown tables for each backbone and engine."""
    peak, rows = rates.measure(), []
    for case in cases:
        name, tap, graph = quantized(case, data)
        if keep:
            keep.mkdir(parents=True, exist_ok=True)
            onnx.save(graph, keep / f"{name}.{tap}.onnx")
        for engine, profile in _PROFILES.items():
            row = Row(name, tap, engine, _layers(graph, profile(graph), peak))
            rows.append(row)
            _show(row, slowest)
    if report:
        content = {"machine": machine.describe(), "peak": asdict(peak), "rows": [asdict(row) for row in rows]}
        report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _layers(graph: onnx.ModelProto, times: Times, peak: rates.Peak) -> list[Layer]:
    """What an engine ran, in order, with what each convolution costs."""
    costs = {layer.name: layer for layer in convolutions(graph)}
    layers = []
    for name, (kind, us) in times.items():
        cost = costs.get(_SUFFIX.sub("", name))
        if cost is None:
            layers.append(Layer(name, kind, round(us, 1)))
        else:
            share = 1e6 * peak.seconds(cost, "int8") / max(us, 1)
            layers.append(Layer(cost.name, _kind(cost), round(us, 1), cost.macs, round(share, 3)))
    return layers


def _kind(layer: Convolution) -> str:
    if layer.groups > 1:
        return "depthwise" if max(layer.kernel) > 1 else "depthwise 1x1"
    return "x".join(str(side) for side in layer.kernel)


def _onnxruntime(graph: onnx.ModelProto) -> Times:
    """What ONNX Runtime's profile says."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "layers"))
        session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for image in _images(session.get_inputs()[0].shape[1:]):
            session.run(None, {"image": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    return _medians(
        (event["name"], event["args"]["op_name"], event["dur"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    )


def _openvino(graph: onnx.ModelProto) -> Times:
    """What OpenVINO's counters say."""
    request, shape = timing.request(graph.SerializeToString(), PERF_COUNT=True)

    def taken() -> Iterator[tuple[str, str, float]]:
        for image in _images(shape[1:]):
            request.infer({0: image})
            for node in request.profiling_info:
                if microseconds := node.real_time.total_seconds() * 1e6:
                    yield node.node_name, node.node_type, microseconds

    return _medians(taken())


_PROFILES: dict[str, Callable[[onnx.ModelProto], Times]] = {"cpu": _onnxruntime, "openvino": _openvino}


def _images(shape: list[int]) -> Iterator[np.ndarray]:
    """The same random picture for each run."""
    image = np.random.default_rng(0).integers(0, 256, (1, *shape), dtype=np.uint8)
    return (image for _ in range(_RUNS))


def _medians(taken: Iterator[tuple[str, str, float]]) -> Times:
    """Name, kind and microseconds of each node in each run, to the medians without the first runs."""
    samples, kinds = defaultdict(list), {}
    for name, kind, microseconds in taken:
        samples[name].append(microseconds)
        kinds[name] = kind
    return {name: (kinds[name], statistics.median(values[_WARM:] or values)) for name, values in samples.items()}


def _show(row: Row, slowest: int) -> None:
    whole = sum(layer.us for layer in row.layers)
    print(f"\n{row.backbone}, {row.tap}, {row.engine}: {whole:.0f} us\n")
    print("| kind | layers | us | % | billion MAC/s | % of the roofline |\n|---|---|---|---|---|---|")
    spent: dict[str, float] = defaultdict(float)
    for layer in row.layers:
        spent[layer.kind] += layer.us
    for kind, us in sorted(spent.items(), key=lambda entry: -entry[1]):
        own = [layer for layer in row.layers if layer.kind == kind]
        least = sum(layer.roofline * layer.us for layer in own)
        print(f"| {kind} | {len(own)} | {us:.0f} | {100 * us / whole:.0f} | {_rate(own)} | {100 * least / us:.0f} |")
    print("\n| slowest layer | kind | us | billion MAC/s | % of the roofline |\n|---|---|---|---|---|")
    for layer in sorted(row.layers, key=lambda layer: -layer.us)[:slowest]:
        print(f"| {layer.name} | {layer.kind} | {layer.us:.0f} | {_rate([layer])} | {100 * layer.roofline:.0f} |")


def _rate(layers: list[Layer]) -> str:
    """Billions of multiply-accumulates a second."""
    return f"{sum(layer.macs for layer in layers) / sum(layer.us for layer in layers) / 1e3:.0f}"


if __name__ == "__main__":
    main()
