"""Bundles against the usual ways, from encoded bytes to the label, on the same images, in alternating turns.

    python benchmarks/compare.py --data DIR --weights FILE --last models/LAST --auto models/AUTO --out compare.json

Both bundles are of the same backbone, made with ``--tap last --augment 0`` and ``--tap auto``. Every contender runs in
a process of its own, round after round, so that no engine's threads disturb another's:

- a: the paper's way: torchvision's network in eager mode, FP32, and scikit-learn's pipeline
- b: the same, compiled by torch.compile, or in bfloat16 with channels last
- c: ONNX Runtime's FP32 backbone and scikit-learn's pipeline
- d: OpenVINO's benchmark_app on the bare INT8 backbones of both bundles, and on the whole graph of `auto`: the floor,
  without decoding
- e, f: the bundles `last` and `auto`, with ``--target openvino`` and with ``--target cpu``
- g: image decoding and the bare INT8 backbone of `auto` in alternation, in one process: the floor without the advantage
  of warm caches

Ratios to the floor are taken within a round, and the median over the rounds counts, so that other load on the machine
slows both alike. ``--only f-openvino g --rounds 12`` measures these ratios and nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

import numpy as np

from edge_all import bundle as bundles
from edge_all import image, inputs, machine

QUERIES, IMAGES, MANY = 300, 64, 1024
"""Timed queries, different images, and images that throughput is measured on."""

THREADS = 2
WHOLE = "auto-whole"
CONTENDERS = ("a", "b-compile", "b-bfloat16", "c", "e-openvino", "e-cpu", "f-openvino", "f-cpu", "g")


class Turn(TypedDict):
    """What contender.py prints."""

    ms: list[float]
    first_label_s: float
    rss_mb: float
    throughput_ips: float
    labels: list[int]


class Floor(TypedDict):
    """What benchmark_app measures: median milliseconds for one image, and images a second."""

    latency: float
    tput: float


class Ratio(TypedDict):
    """A ratio of the rounds."""

    median: float
    least: float
    most: float


Row = dict[str, str | float | None]


@dataclass(frozen=True)
class Options:
    """The command line.

    Attributes:
        data: Folder with one folder a class.
        weights: Of the backbone of `last`: a file, ``auto`` or ``random``.
        last: Bundle made with ``--tap last``.
        auto: Bundle made with ``--tap auto``.
        out: File for the report.
        only: Contenders to measure.
        rounds: Turns of each.
    """

    data: Path
    weights: str
    last: Path
    auto: Path
    out: Path
    only: Sequence[str]
    rounds: int


@dataclass(frozen=True)
class Measured:
    """Everything that was measured, each by round.

    Attributes:
        turns: By contender, without those that failed.
        floors: By graph: ``last``, ``auto`` and `WHOLE`.
        decode_ms: Median time to decode one image.
    """

    turns: dict[str, list[Turn]]
    floors: dict[str, list[Floor]]
    decode_ms: list[float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with one folder a class")
    parser.add_argument("--weights", required=True, help="weights of the backbone of --last")
    parser.add_argument("--last", type=Path, required=True, help="bundle made with --tap last")
    parser.add_argument("--auto", type=Path, required=True, help="bundle made with --tap auto")
    parser.add_argument("--out", type=Path, required=True, help="file for the report")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS, help="contenders to measure")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    options = Options(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory() as work:
        _prepare(options, Path(work))
        measured = _measure(options, Path(work))
    rows = [_contender_row(options, measured, name) for name in measured.turns]
    rows += [_floor_row(name, runs) for name, runs in measured.floors.items()]
    to_floor = _to_floor(measured)
    report = {
        "machine": machine.describe(),
        "rounds": options.rounds,
        "queries": QUERIES,
        "images": MANY,
        "decode_ms": round(statistics.median(measured.decode_ms), 3),
        "rows": rows,
        "to_floor": to_floor,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(json.dumps(row))
    print(json.dumps(to_floor))


def _prepare(options: Options, work: Path) -> None:
    """Write what the contenders need: images, FP32 backbone and scikit-learn head of `last`, and bare INT8 graphs."""
    import joblib
    import onnx

    from edge_all.export import backbones, features
    from edge_all.export.dataset import read
    from edge_all.export.features import Rows
    from edge_all.export.graph import edit, names, weights
    from edge_all.export.graph.build import backbone_graph
    from edge_all.export.head import evaluate
    from edge_all.export.head.fit import HeadSpec

    record = bundles.load(options.last).record
    data = read(options.data)
    backbone = backbones.load(record["backbone"])
    graph = backbone_graph(backbone, weights.load(backbone, options.weights, seed=0))
    onnx.save(graph, work / "backbone.onnx")
    rows = Rows(features.extract(graph, data, backbone.input_size))
    spec = HeadSpec(record["selector"], record["classifier"], record["features"], seed=0)
    joblib.dump(evaluate.fit(rows, data.labels, spec).pipeline, work / "head.joblib")
    for name, path in (("last", options.last), ("auto", options.auto)):
        bundle = bundles.load(path)
        model = onnx.load_from_string(bundle.read(bundle.model_file("openvino", "int8")))
        onnx.save(edit.extract(model, [names.IMAGE], [names.FEATURES]), work / f"{name}.onnx")
        if name == "auto":
            onnx.save(model, work / f"{WHOLE}.onnx")
    chosen = np.linspace(0, len(data) - 1, IMAGES).astype(int)
    (work / "images.json").write_text(json.dumps([str(data.paths[i]) for i in chosen]), encoding="utf-8")


def _measure(options: Options, work: Path) -> Measured:
    size = bundles.load(options.last).input_size
    graphs = ["auto", WHOLE, *(["last"] if any(name.startswith("e") for name in options.only) else [])]
    measured = Measured({name: [] for name in options.only}, {name: [] for name in graphs}, [])
    for number in range(options.rounds):
        for name in list(measured.turns):
            try:
                measured.turns[name].append(_turn(options, work, name))
            except RuntimeError as error:
                print(f"{name}: left out ({error})", file=sys.stderr)
                del measured.turns[name]
        for name, runs in measured.floors.items():
            file = work / f"{name}.onnx"
            latency, throughput = (_benchmark_app(file, hint, size) for hint in ("latency", "tput"))
            runs.append({"latency": latency, "tput": throughput})
        measured.decode_ms.append(_decode_ms(options))
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return measured


def _turn(options: Options, work: Path, name: str) -> Turn:
    program = str(Path(__file__).with_name("contender.py"))
    values: dict[str, object] = {
        "work": work, "last": options.last, "auto": options.auto, "weights": options.weights,
        "threads": THREADS, "queries": QUERIES, "images": MANY, "started": time.time(),
    }  # fmt: skip
    command = [sys.executable, program, name, *(f"--{option}={value}" for option, value in values.items())]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return cast(Turn, json.loads(done.stdout.splitlines()[-1]))


def _benchmark_app(model: Path, hint: str, size: tuple[int, int]) -> float:
    """Median milliseconds for one image, or images a second, as OpenVINO's own tool measures them."""
    shape = "[" + ",".join(map(str, (1, *size, 3))) + "]"
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-shape", shape, "-hint", hint]
    command += ["-infer_precision", "f32", "-t", "2", "-d", "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    pattern = r"Median:\s+([\d.]+) (ms|us)" if hint == "latency" else r"Throughput:\s+([\d.]+) (FPS)"
    figure = re.search(pattern, done.stdout)
    assert figure, done.stdout[-500:]
    return float(figure[1]) / (1e3 if figure[2] == "us" else 1)


def _decode_ms(options: Options) -> float:
    """Median time to decode one of the images: the floor's other part."""
    contents = [path.read_bytes() for path in inputs.images_below(options.data)[:IMAGES]]
    size = bundles.load(options.last).input_size
    taken = []
    for i in range(500):
        start = time.perf_counter()
        image.decode(contents[i % len(contents)], size)
        taken.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(taken), 3)


def _contender_row(options: Options, measured: Measured, name: str) -> Row:
    turns = measured.turns[name]
    same = None
    if "a" in measured.turns and name != "g":  # g gives no label
        same = round(100 * float(np.mean(np.equal(measured.turns["a"][0]["labels"], turns[0]["labels"]))), 1)
    ms = np.concatenate([turn["ms"] for turn in turns])
    return {
        "contender": name,
        "block_accuracy": _block_accuracy(options, name),
        "same_label_as_a": same,
        "p50_ms": round(float(np.median(ms)), 3),
        "p90_ms": round(float(np.quantile(ms, 0.9)), 3),
        "first_label_s": round(statistics.median(turn["first_label_s"] for turn in turns), 3),
        "rss_mb": round(statistics.median(turn["rss_mb"] for turn in turns), 3),
        "throughput_ips": round(statistics.median(turn["throughput_ips"] for turn in turns), 3),
    }


def _block_accuracy(options: Options, name: str) -> float | None:
    """Accuracy under ``block`` as the export measured it; None where it was not (bfloat16), or there is no label."""
    kind, _, target = name.partition("-")
    metrics = bundles.load(options.auto if kind == "f" else options.last).record["metrics"]["block"]
    if kind in "ef":
        return metrics["int8"]["targets"][target]["accuracy"]
    return metrics["fp32"]["accuracy"] if kind in "ac" else None


def _floor_row(name: str, runs: Sequence[Floor]) -> Row:
    return {
        "contender": f"d-{name}",
        "p50_ms": statistics.median(run["latency"] for run in runs),
        "throughput_ips": statistics.median(run["tput"] for run in runs),
    }


def _to_floor(measured: Measured) -> Mapping[str, Ratio]:
    """`auto` on OpenVINO divided by the floor: median, smallest and largest of the rounds' ratios."""
    if "f-openvino" not in measured.turns:
        return {}
    turns, floors = measured.turns["f-openvino"], measured.floors
    p50 = np.array([statistics.median(turn["ms"]) for turn in turns])
    floor = np.array(measured.decode_ms) + [run["latency"] for run in floors["auto"]]
    ratios = {
        "bytes_to_label": p50 / floor,
        "throughput": np.divide([turn["throughput_ips"] for turn in turns], [run["tput"] for run in floors[WHOLE]]),
    }
    if "g" in measured.turns:
        ratios["bytes_to_label_in_turns"] = p50 / [statistics.median(turn["ms"]) for turn in measured.turns["g"]]
    return {
        name: {
            "median": round(float(np.median(values)), 3),
            "least": round(float(values.min()), 3),
            "most": round(float(values.max()), 3),
        }
        for name, values in ratios.items()
    }


if __name__ == "__main__":
    main()
