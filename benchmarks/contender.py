"""Measure one contender of compare.py in a process of its own, and print one JSON object.

compare.py starts it, with a folder in which it has put the images' paths, a scikit-learn head and the bare graphs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_all import bundle as bundles
from edge_all import image, machine

BATCH = 32
"""Images that torch and scikit-learn are given at a time for throughput."""

WARM_UP = 64
"""Images that are classified before throughput is measured."""


@dataclass(frozen=True)
class Options:
    """What compare.py asks for.

    Attributes:
        name: Of the contender, as in compare.py.
        work: Folder with the prepared files.
        last: Bundle made with ``--tap last``.
        auto: Bundle made with ``--tap auto``.
        weights: Of the backbone of `last`.
        threads: Threads of every engine.
        queries: Timed queries for one image.
        images: Images that throughput is measured on.
        started: Time at which this process was started, in seconds since the epoch.
    """

    name: str
    work: Path
    last: Path
    auto: Path
    weights: str
    threads: int
    queries: int
    images: int
    started: float


@dataclass(frozen=True)
class Contender:
    """A way to classify images.

    Attributes:
        query: From an encoded image to class probabilities ``[K]``; where there is no head, to features ``[C]``.
        run_all: Classifies image files as fast as it can.
    """

    query: Callable[[bytes | Path], np.ndarray]
    run_all: Callable[[Sequence[Path]], None]


Features = Callable[[np.ndarray], np.ndarray]
"""From ``uint8 [N, H, W, 3]`` to ``float32 [N, C]``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    for option in ("work", "last", "auto"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--weights", required=True)
    for option in ("threads", "queries", "images"):
        parser.add_argument(f"--{option}", type=int, required=True)
    parser.add_argument("--started", type=float, required=True)
    print(json.dumps(measure(Options(**vars(parser.parse_args())))))


def measure(options: Options) -> dict[str, float | list[float] | list[int]]:
    """Milliseconds of each query, seconds to the first label, MB, images a second, and the labels."""
    paths = [Path(path) for path in json.loads((options.work / "images.json").read_text(encoding="utf-8"))]
    encoded = [path.read_bytes() for path in paths]
    contender = _contender(options)
    answers = [contender.query(encoded[0])]
    first_label_s = time.time() - options.started
    memory = machine.peak_memory_mb()
    answers += [contender.query(content) for content in encoded[1:]]
    taken = []
    for i in range(options.queries):
        start = time.perf_counter()
        contender.query(encoded[i % len(encoded)])
        taken.append((time.perf_counter() - start) * 1e3)
    files = [paths[i % len(paths)] for i in range(options.images)]
    contender.run_all(files[:WARM_UP])
    start = time.perf_counter()
    contender.run_all(files)
    per_second = options.images / (time.perf_counter() - start)
    return {
        "ms": taken,
        "first_label_s": first_label_s,
        "rss_mb": memory,
        "throughput_ips": per_second,
        "labels": [int(answer.argmax()) for answer in answers],
    }


def _contender(options: Options) -> Contender:
    kind, _, variant = options.name.partition("-")
    if kind in "ef":
        return _bundle(options.last if kind == "e" else options.auto, variant, options.threads)
    if kind == "g":
        return _bare_graph(options.work / "auto.onnx", bundles.load(options.auto).input_size)
    features = _onnxruntime(options.work / "backbone.onnx") if kind == "c" else _torch(options, variant)
    return _with_head(features, options.work / "head.joblib", bundles.load(options.last).input_size)


def _with_head(features: Features, file: Path, size: tuple[int, int]) -> Contender:
    """A backbone, and scikit-learn's pipeline behind it."""
    import joblib

    head = joblib.load(file)

    def query(source: bytes | Path) -> np.ndarray:
        return np.asarray(head.predict_proba(features(image.decode(source, size)[np.newaxis]))[0])

    def run_all(paths: Sequence[Path]) -> None:
        for i in range(0, len(paths), BATCH):
            head.predict_proba(features(np.stack([image.decode(path, size) for path in paths[i : i + BATCH]])))

    return Contender(query, run_all)


def _bundle(path: Path, target: str, threads: int) -> Contender:
    """The bundle as edge_all runs it."""
    from edge_all.classifier import Classifier, start
    from edge_all.classify_all import classify_all
    from edge_all.targets import EngineOptions

    bundle = bundles.load(path)
    classifier = start(bundle, EngineOptions(target), "int8")
    with_streams: list[Classifier] = []

    def query(source: bytes | Path) -> np.ndarray:
        return np.array(list(classifier.classify(source).probabilities.values()))

    def run_all(paths: Sequence[Path]) -> None:
        if not with_streams:
            with_streams.append(start(bundle, EngineOptions(target, streams=threads), "int8"))
        for _ in classify_all(with_streams[0], paths, threads):
            pass

    return Contender(query, run_all)


def _bare_graph(model: Path, size: tuple[int, int]) -> Contender:
    """Decoding and OpenVINO alone."""
    import openvino as ov

    from edge_all.export.graph import names, timing

    request, shape = timing.request(model)
    pixels = np.zeros(shape, np.uint8)
    request.set_tensor(names.IMAGE, ov.Tensor(pixels, shared_memory=True))
    features = request.get_tensor(names.FEATURES)

    def query(source: bytes | Path) -> np.ndarray:
        image.decode(source, size, pixels[0])
        request.infer(share_outputs=True)
        return np.asarray(features.data)

    def run_all(paths: Sequence[Path]) -> None:
        for path in paths:
            query(path)

    return Contender(query, run_all)


def _onnxruntime(model: Path) -> Features:
    import onnxruntime as ort

    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda pixels: np.asarray(session.run(None, {"image": pixels})[0])


def _torch(options: Options, variant: str) -> Features:
    """torchvision's network: eager, compiled (``compile``), or in bfloat16 with channels last (``bfloat16``)."""
    import torch

    from edge_all.export import backbones
    from edge_all.export.graph import weights
    from edge_all.export.graph.build import Trunk

    torch.set_num_threads(options.threads)
    backbone = backbones.load(bundles.load(options.last).record["backbone"])
    trunk = Trunk(backbone, weights.load(backbone, options.weights, seed=0), [backbone.taps[-1].name]).eval()
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (backbone.mean, backbone.std))
    bfloat16 = variant == "bfloat16"
    if bfloat16:
        trunk = trunk.to(memory_format=torch.channels_last)
    run = torch.compile(trunk) if variant == "compile" else trunk

    def features(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            x = (torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255 - mean) / std
            return np.asarray(run(x)[0].float().mean((2, 3)).numpy())

    return features


if __name__ == "__main__":
    main()
