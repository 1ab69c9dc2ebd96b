"""Ours against the ways people do it now, from encoded bytes to the label, on the same images, in alternating turns.

    python benchmarks/compare.py --data DIR --weights FILE --last models/LAST --auto models/AUTO --out compare.json

Both bundles are of the same backbone, made with ``--tap last --augment 0`` and ``--tap auto``. Every contender runs in
a process of its own, round after round, so that no engine's threads disturb another's:

- a: the paper's way: torchvision's network in eager mode, FP32, and scikit-learn's pipeline
- b: the same compiled by torch.compile, or in bfloat16 with channels last, whichever is faster here
- c: ONNX Runtime's FP32 backbone and scikit-learn's pipeline
- d: OpenVINO's benchmark_app on the bare INT8 backbones of both bundles, and on the whole graph of `auto`: the floor,
  nothing decoded
- e, f: the bundles with ``--target openvino`` and with ``--target cpu``
- g: image decoding and the bare INT8 backbone of `auto` in turns, in one process: the floor with warm caches taken away

What is compared with the floor is compared within a round, and the median over the rounds counts: what others do to the
machine meanwhile meets both. ``--only f-openvino g --rounds 12`` does that and no more.
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_all import bundle as bundles
from edge_all import image, machine

QUERIES, IMAGES, MANY = 300, 64, 1024
THREADS = 2
WHOLE = "auto-whole"
CONTENDERS = ("a", "b-compile", "b-bfloat16", "c", "e-openvino", "e-cpu", "f-openvino", "f-cpu", "g")

Ask = Callable[[bytes], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--last", type=Path, required=True)
    parser.add_argument("--auto", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--room", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_measured(given)))
        return
    with tempfile.TemporaryDirectory() as room:
        given.room = Path(room)
        _prepare(given)
        size = bundles.load(given.last).input_size
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in given.only}
        compared = ("auto", WHOLE) + (("last",) if any(name.startswith("e") for name in given.only) else ())
        floors: dict[str, list[dict[str, float]]] = {which: [] for which in compared}
        decoding: list[float] = []
        for turn in range(given.rounds):
            for name in list(found):
                try:
                    found[name].append(_turn(given, name))
                except RuntimeError as error:
                    print(f"{name}: left out ({error})", file=sys.stderr)
                    del found[name]
            for which, runs in floors.items():
                bare = given.room / f"{which}.onnx"
                runs.append({hint: _benchmark_app(bare, hint, size) for hint in ("latency", "tput")})
            decoding.append(_decode_ms(given))
            print(f"round {turn + 1} of {given.rounds}", file=sys.stderr)
    report = _report(given, found, floors, decoding)
    given.out.write_text(json.dumps(report, indent=1) + "\n")
    for row in report["rows"]:
        print(json.dumps(row))
    print(json.dumps(report["to_floor"]))


def _prepare(given: argparse.Namespace) -> None:
    """The scikit-learn head of the last layer, and the bare backbones."""
    import joblib
    import onnx

    from edge_all.export import backbones, features
    from edge_all.export.dataset import read
    from edge_all.export.graph import weights
    from edge_all.export.graph.build import backbone_graph
    from edge_all.export.head import evaluate
    from edge_all.export.head.evaluate import Rows
    from edge_all.export.head.fit import fit_head

    record = bundles.load(given.last).record
    data = read(given.data)
    backbone = backbones.load(record["backbone"])
    pretrained = weights.load(backbone, given.weights, seed=0)
    graph = backbone_graph(backbone, pretrained)
    onnx.save(graph, given.room / "backbone.onnx")
    rows = features.extract(graph, data.paths, data.digests, backbone.input_size)
    fit = partial(
        fit_head, selector=record["selector"], classifier=record["classifier"], count=record["features"], seed=0
    )
    joblib.dump(evaluate.fit(Rows(rows), data.labels, fit).pipeline, given.room / "head.joblib")
    for which in ("last", "auto"):
        bundle = bundles.load(getattr(given, which))
        model = onnx.load_from_string(bundle.read(bundle.model_file("openvino", "int8")))
        onnx.save(onnx.utils.Extractor(model).extract_model(["image"], ["features"]), given.room / f"{which}.onnx")
        if which == "auto":
            onnx.save(model, given.room / f"{WHOLE}.onnx")
    chosen = np.linspace(0, len(data) - 1, IMAGES).astype(int)
    (given.room / "images.json").write_text(json.dumps([str(data.paths[i]) for i in chosen]))


def _turn(given: argparse.Namespace, name: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", name, "--room", str(given.room)]
    for option in ("data", "weights", "last", "auto", "out"):
        command += [f"--{option}", str(getattr(given, option))]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "STARTED": str(time.time())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _measured(given: argparse.Namespace) -> dict[str, Any]:
    """One contender's turn, in its own process."""
    paths = [Path(path) for path in json.loads((given.room / "images.json").read_text())]
    encoded = [path.read_bytes() for path in paths]
    ask, all_of = _contender(given, given.one)
    answers = [ask(encoded[0])]
    first = time.time() - float(os.environ["STARTED"])
    memory = machine.peak_memory_mb()
    answers += [ask(file) for file in encoded[1:]]
    taken = []
    for i in range(QUERIES):
        start = time.perf_counter()
        ask(encoded[i % len(encoded)])
        taken.append((time.perf_counter() - start) * 1e3)
    files = [paths[i % len(paths)] for i in range(MANY)]
    all_of(files[:64])
    start = time.perf_counter()
    all_of(files)
    per_second = MANY / (time.perf_counter() - start)
    labels = [int(answer.argmax()) for answer in answers]
    return {"ms": taken, "first_label_s": first, "rss_mb": memory, "throughput_ips": per_second, "labels": labels}


def _contender(given: argparse.Namespace, name: str) -> tuple[Ask, Callable[[list[Path]], None]]:
    kind, _, variant = name.partition("-")
    if kind in "ef":
        return _ours(given.last if kind == "e" else given.auto, variant)
    if kind == "g":
        return _bare(given.room / "auto.onnx", bundles.load(given.auto).input_size)
    import joblib

    head = joblib.load(given.room / "head.joblib")
    features = _onnxruntime(given.room / "backbone.onnx") if kind == "c" else _torch(given, variant)
    size = bundles.load(given.last).input_size

    def ask(file: bytes) -> np.ndarray:
        return np.asarray(head.predict_proba(features(image.decode(file, size)[np.newaxis]))[0])

    def all_of(paths: list[Path]) -> None:
        for i in range(0, len(paths), 32):
            head.predict_proba(features(np.stack([image.decode(path, size) for path in paths[i : i + 32]])))

    return ask, all_of


def _ours(path: Path, target: str) -> tuple[Ask, Callable[[list[Path]], None]]:
    from edge_all.classifier import classify_all, start

    bundle = bundles.load(path)
    classifier = start(bundle, target, "int8")
    several: list[Any] = []

    def all_of(paths: list[Path]) -> None:
        if not several:
            several.append(start(bundle, target, "int8", streams=THREADS))
        for _ in classify_all(several[0], paths, THREADS):
            pass

    return lambda file: np.array(list(classifier.classify(file).probabilities.values())), all_of


def _bare(model: Path, size: tuple[int, int]) -> tuple[Ask, Callable[[list[Path]], None]]:
    import openvino as ov

    from edge_all.export.graph import one_image

    request, shape = one_image.request(model)
    pixels = np.zeros(shape, np.uint8)
    request.set_tensor("image", ov.Tensor(pixels, shared_memory=True))
    features = request.get_tensor("features")

    def ask(file: bytes | Path) -> np.ndarray:
        image.decode(file, size, pixels[0])
        request.infer(share_outputs=True)
        return np.asarray(features.data)

    def all_of(paths: list[Path]) -> None:
        for path in paths:
            ask(path)

    return ask, all_of


def _onnxruntime(model: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime as ort

    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"image": pixels})[0]


def _torch(given: argparse.Namespace, variant: str) -> Callable[[np.ndarray], np.ndarray]:
    import torch

    from edge_all.export import backbones
    from edge_all.export.graph import weights
    from edge_all.export.graph.build import Trunk

    torch.set_num_threads(THREADS)
    backbone = backbones.load(bundles.load(given.last).record["backbone"])
    trunk = Trunk(backbone, weights.load(backbone, given.weights, seed=0), [backbone.taps[-1].name]).eval()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (backbone.mean, backbone.std))
    kind = torch.bfloat16 if variant == "bfloat16" else torch.float32
    if variant == "bfloat16":
        trunk = trunk.to(memory_format=torch.channels_last)
    run = torch.compile(trunk) if variant == "compile" else trunk

    def features(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", kind, enabled=variant == "bfloat16"):
            x = (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255 - mean) / std
            return run(x)[0].float().mean((2, 3)).numpy()

    return features


def _benchmark_app(model: Path, hint: str, size: tuple[int, int]) -> float:
    """Median ms for one image, or images a second, of OpenVINO's own tool."""
    shape = "[" + ",".join(map(str, (1, *size, 3))) + "]"
    command = [str(Path(sys.executable).with_name("benchmark_app")), "-m", str(model), "-shape", shape, "-hint", hint]
    command += ["-infer_precision", "f32", "-t", "2", "-d", "CPU"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wanted = r"Median:\s+([\d.]+) (ms|us)" if hint == "latency" else r"Throughput:\s+([\d.]+) (FPS)"
    found = re.search(wanted, done.stdout)
    assert found, done.stdout[-500:]
    return float(found[1]) / (1e3 if found[2] == "us" else 1)


def _report(
    given: argparse.Namespace, found: dict[str, Any], floors: dict[str, Any], decoding: list[float]
) -> dict[str, Any]:
    records = {which: bundles.load(getattr(given, which)).record for which in ("last", "auto")}
    fp32 = records["last"]["metrics"]["block"]["fp32"]["accuracy"]
    rows = []
    for name, turns in found.items():
        kind, _, target = name.partition("-")
        if kind in "ef":
            scores = records["last" if kind == "e" else "auto"]["metrics"]["block"]["int8"]["targets"]
            accuracy = scores[target]["accuracy"]
        else:
            accuracy = fp32 if kind in "ac" else None  # bfloat16's own was not measured; g gives no label
        same = None
        if "a" in found and kind != "g":  # g gives no label
            same = round(100 * float(np.mean(np.equal(found["a"][0]["labels"], turns[0]["labels"]))), 1)
        pooled = np.concatenate([turn["ms"] for turn in turns])
        keys = ("first_label_s", "rss_mb", "throughput_ips")
        medians = {key: statistics.median(turn[key] for turn in turns) for key in keys}
        rows.append(
            {
                "contender": name,
                "block_accuracy": accuracy,
                "same_label_as_a": same,
            }
            | {"p50_ms": round(float(np.median(pooled)), 3), "p90_ms": round(float(np.quantile(pooled, 0.9)), 3)}
            | {key: round(value, 3) for key, value in medians.items()}
        )
    for which, runs in floors.items():
        rows.append(
            {"contender": f"d-{which}", "p50_ms": statistics.median(run["latency"] for run in runs)}
            | {"throughput_ips": statistics.median(run["tput"] for run in runs)}
        )
    return {
        "machine": machine.describe(),
        "rounds": given.rounds,
        "queries": QUERIES,
        "images": MANY,
        "decode_ms": round(statistics.median(decoding), 3),
        "rows": rows,
        "to_floor": _to_floor(found, floors, decoding),
    }


def _to_floor(found: dict[str, Any], floors: dict[str, Any], decoding: list[float]) -> dict[str, dict[str, float]]:
    """Ours on OpenVINO by the floor: the median, smallest and largest of the rounds' ratios."""
    if "f-openvino" not in found:
        return {}
    ours = found["f-openvino"]
    p50 = np.array([statistics.median(turn["ms"]) for turn in ours])
    floor = np.array(decoding) + [run["latency"] for run in floors["auto"]]
    ratios = {
        "bytes_to_label": p50 / floor,
        "throughput": np.divide([turn["throughput_ips"] for turn in ours], [run["tput"] for run in floors[WHOLE]]),
    }
    if "g" in found:
        ratios["bytes_to_label_in_turns"] = p50 / [statistics.median(turn["ms"]) for turn in found["g"]]
    return {
        name: {
            "median": round(float(np.median(v)), 3),
            "least": round(float(v.min()), 3),
            "most": round(float(v.max()), 3),
        }
        for name, v in ratios.items()
    }


def _decode_ms(given: argparse.Namespace) -> float:
    """Median time to decode one of the images: the floor's other part."""
    from edge_all.image import find

    files = [path.read_bytes() for path in list(find([given.data]))[:IMAGES]]
    size = bundles.load(given.last).input_size
    taken = []
    for i in range(500):
        start = time.perf_counter()
        image.decode(files[i % len(files)], size)
        taken.append((time.perf_counter() - start) * 1e3)
    return round(statistics.median(taken), 3)


if __name__ == "__main__":
    main()
