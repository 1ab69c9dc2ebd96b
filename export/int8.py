"""Try a target's schemes in order and keep the first that passes the gate."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_all.errors import EdgeAllError

from . import calibration, evaluate, features, gate
from .dataset import Dataset
from .head import Head
from .quantize import SCHEMES, Scheme, quantize


@dataclass(frozen=True)
class Exact:
    """What FP32 gave, to compare with.

    Attributes:
        data: The training images.
        features: ``float32 [N, C]``.
        splits: Fold of each image, ``int64 [N]``, by protocol.
        heads: One head a fold, by protocol.
        scores: Of `evaluate.score`, by protocol.
    """

    data: Dataset
    features: np.ndarray
    splits: Mapping[str, np.ndarray]
    heads: Mapping[str, list[Head]]
    scores: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Int8:
    """A quantized backbone.

    Attributes:
        scheme: How it was made.
        refit: Whether its head is fitted on the quantized backbone's own features, not on FP32's.
        graph: What ships.
        features: ``float32 [N, C]`` of every training image: where `refit`, by `graph`; else, of those that `graph` was
            calibrated on, by the other graph.
        scores: By protocol, with ``agreement_fp32``; no image counts that its graph was calibrated on, and no head that
            was fitted on it.
        verdict: The gate's.
    """

    scheme: Scheme
    refit: bool
    graph: onnx.ModelProto
    features: np.ndarray
    scores: Mapping[str, dict[str, Any]]
    verdict: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.scheme.name + (" with the head refitted" if self.refit else "")


def search(
    target: str,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    exact: Exact,
    halves: calibration.Halves,
    *,
    made: dict[tuple[str, bool], onnx.ModelProto],
    fit: evaluate.Fit,
    step: Callable[[str], AbstractContextManager[features.Progress]],
    tell: Callable[[str], None],
) -> list[Int8]:
    """Quantize for a target until something passes: each scheme first under FP32's head, then under a refitted one.

    Args:
        target: A key of `SCHEMES`.
        graph: The FP32 backbone.
        size: Height and width of its input.
        exact: FP32's answers.
        halves: Who is calibrated on, and who is judged.
        made: Quantized graphs by scheme and half, for targets that share a scheme; added to.
        fit: Fits a head.
        step: Opens a step under a title.
        tell: Says what was refused.

    Returns:
        Everything that was tried and gave a graph, in order; only the last can have passed.
    """
    tried: list[Int8] = []
    extract = _extractor(exact.data, size, target)
    for scheme in SCHEMES[target]:
        try:
            with step(f"Quantizing for {target} ({scheme.name})") as progress:
                pair = _quantize(scheme, graph, size, exact.data, halves, made, extract, target, progress)
        except EdgeAllError:
            raise
        except Exception as error:  # quantizers fail in many ways; another scheme may still do
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            tell(f"INT8 for {target} by {scheme.name} could not be made ({reason})")
            continue
        tried.append(_plain(scheme, pair, exact))
        if not tried[-1].verdict["passed"]:
            tell(_refusal(target, tried[-1]))
            with step("Refitting the head on its features") as progress:
                tried.append(_refitted(scheme, pair, exact, fit, extract, progress))
        if tried[-1].verdict["passed"]:
            return tried
        tell(_refusal(target, tried[-1]))
    tell(f"no INT8 for {target} passed the gate: FP32 ships in its place")
    return tried


@dataclass(frozen=True)
class _Pair:
    """The graph that ships, and the other one, which answers for the images that the first was calibrated on.

    Attributes:
        graphs: Both.
        judged: ``bool [N]`` each: the images that it answers for.
        rows: ``float32 [N, C]``: every image's features by the graph that answers for it.
    """

    graphs: tuple[onnx.ModelProto, onnx.ModelProto]
    judged: tuple[np.ndarray, np.ndarray]
    rows: np.ndarray


Extract = Callable[[onnx.ModelProto, np.ndarray, features.Progress], np.ndarray]
"""Features of the images where a ``bool [N]`` is true."""


def _extractor(data: Dataset, size: tuple[int, int], target: str) -> Extract:
    def extract(graph: onnx.ModelProto, chosen: np.ndarray, progress: features.Progress) -> np.ndarray:
        part = data.subset(chosen)
        return features.extract(graph, part.paths, part.digests, size, target=target, progress=progress)

    return extract


def _quantize(
    scheme: Scheme,
    graph: onnx.ModelProto,
    size: tuple[int, int],
    data: Dataset,
    halves: calibration.Halves,
    made: dict[tuple[str, bool], onnx.ModelProto],
    extract: Extract,
    target: str,
    progress: features.Progress,
) -> _Pair:
    judged = halves.judged_by_shipped, ~halves.judged_by_shipped
    rows = np.empty((len(data), graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value), np.float32)
    graphs = []
    for numbers, own, key in zip(
        (halves.shipped, halves.other), judged, ((scheme.name, True), (scheme.name, False)), strict=True
    ):
        if key not in made:
            paths = [data.paths[i] for i in calibration.spread(numbers, scheme.images)]
            made[key] = quantize(graph, scheme, np.stack(list(features.decoded(paths, size))))
        graphs.append(made[key])
        if target == "openvino":
            _survive_openvino(graphs[-1], size)
        rows[own] = extract(graphs[-1], own, progress)
    return _Pair((graphs[0], graphs[1]), judged, rows)


def _survive_openvino(graph: onnx.ModelProto, size: tuple[int, int]) -> None:
    """Run a graph in a process of its own: some quantized graphs kill OpenVINO, and this process with it.

    Both as the runtime compiles it, for any batch and low latency, and as `features` does, for one image and
    throughput: ONNX Runtime's QDQ of DenseNet121 survives the first and not the second.

    Raises:
        RuntimeError: It died, or OpenVINO refused the graph.
    """
    program = (
        "import sys, numpy, openvino\n"
        "core, image = openvino.Core(), numpy.zeros((1, int(sys.argv[2]), int(sys.argv[3]), 3), numpy.uint8)\n"
        "for fixed, hint in ((False, 'LATENCY'), (True, 'THROUGHPUT')):\n"
        "    model = core.read_model(sys.argv[1])\n"
        "    if fixed: model.reshape(image.shape)\n"
        "    options = {'INFERENCE_PRECISION_HINT': 'f32', 'PERFORMANCE_HINT': hint}\n"
        "    core.compile_model(model, 'CPU', options)(image)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.onnx")
        onnx.save(graph, path)
        command = [sys.executable, "-c", program, str(path), *map(str, size)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode < 0:
        raise RuntimeError(f"it kills OpenVINO by signal {-done.returncode}")
    if done.returncode:
        raise RuntimeError(f"OpenVINO refuses it: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")


def _plain(scheme: Scheme, pair: _Pair, exact: Exact) -> Int8:
    """FP32's heads on the quantized features."""
    answers = {name: evaluate.answer(exact.heads[name], pair.rows, split) for name, split in exact.splits.items()}
    return _judged(scheme, pair.graphs[0], pair.rows, False, answers, exact)


def _refitted(
    scheme: Scheme, pair: _Pair, exact: Exact, fit: evaluate.Fit, extract: Extract, progress: features.Progress
) -> Int8:
    """Heads fitted on the quantized features, each on those of the graph whose answers it turns into labels."""
    whole = []
    for graph, own in zip(pair.graphs, pair.judged, strict=True):
        whole.append(pair.rows.copy())
        whole[-1][~own] = extract(graph, ~own, progress)
    answers = {}
    for name, split in exact.splits.items():
        given = np.empty((len(split), len(exact.data.classes)))
        for rows, own in zip(whole, pair.judged, strict=True):
            heads = evaluate.fold_heads(rows, exact.data.labels, split, fit)
            given[own] = evaluate.answer(heads, rows[own], split[own])
        answers[name] = given
    return _judged(scheme, pair.graphs[0], whole[0], True, answers, exact)


def _judged(
    scheme: Scheme,
    graph: onnx.ModelProto,
    rows: np.ndarray,
    refit: bool,
    answers: Mapping[str, np.ndarray],
    exact: Exact,
) -> Int8:
    scores = {}
    for name, given in answers.items():
        wanted = evaluate.answer(exact.heads[name], exact.features, exact.splits[name])
        score = evaluate.score(exact.data.labels, given, exact.data.classes)
        scores[name] = score | {"agreement_fp32": evaluate.agreement(given, wanted)}
    verdict = gate.judge(exact.scores["block"], scores["block"], exact.data.counts)
    return Int8(scheme, refit, graph, rows, scores, verdict)


def _refusal(target: str, attempt: Int8) -> str:
    lost, allowed = attempt.verdict["lost"], attempt.verdict["allowed"]
    parts = ", ".join(f"{name} {lost[name]} (allowed {allowed[name]})" for name in lost)
    return f"INT8 for {target} by {attempt.name} was refused by the gate: points lost: {parts}"
