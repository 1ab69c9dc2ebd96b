"""The search for an INT8 graph: what is refused, what fails, and what a refitted head saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import random_weights

from edge_all.export import backbone_graph, backbones, calibration, evaluate, features, int8, quantize
from edge_all.export.dataset import folds, groups, read
from edge_all.export.dataset.synthetic import draw
from edge_all.export.head import fit_head

SIZE = (64, 64)

FIT = partial(fit_head, selector="anova", classifier="svm", count=12)


@contextmanager
def _step(title: str) -> Iterator[features.Progress]:
    yield lambda done, total: None


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[onnx.ModelProto, int8.Exact, calibration.Halves]:
    data = read(draw(tmp_path_factory.mktemp("drawn"), per_class=12, seed=2))
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph.build(backbone, random_weights(backbone.name), tap_name="features.3", input_size=SIZE)
    rows = features.extract(graph, data.paths, data.digests, SIZE)
    near, block = groups(data), folds(data, "block")
    heads = evaluate.fold_heads(rows, data.labels, block, FIT)
    score = evaluate.score(data.labels, evaluate.answer(heads, rows, block), data.classes)
    exact = int8.Exact(data, rows, {"block": block}, {"block": heads}, {"block": score})
    return graph, exact, calibration.halves(block, near)


def search(case: tuple[onnx.ModelProto, int8.Exact, calibration.Halves], said: list[str]) -> list[int8.Int8]:
    graph, exact, halves = case
    return int8.search("cpu", graph, SIZE, exact, halves, made={}, fit=FIT, step=_step, tell=said.append)


def _spoiled(model: onnx.ModelProto, scheme: quantize.Scheme, images: np.ndarray) -> onnx.ModelProto:
    """Calibrated on black images only: every range is far too narrow."""
    return quantize.quantize(model, quantize.Scheme("qdq", "onnxruntime_qdq"), np.zeros_like(images))


def test_a_spoiled_calibration_is_refused(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(int8, "quantize", _spoiled)
    said: list[str] = []
    tried = search(case, said)
    plain = [attempt for attempt in tried if not attempt.refit]
    assert plain and not any(attempt.verdict["passed"] for attempt in plain)
    assert any("refused by the gate" in line for line in said)
    if not tried[-1].verdict["passed"]:
        assert "FP32 ships" in said[-1]


def test_a_scheme_that_fails_is_no_end(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def broken(model: onnx.ModelProto, scheme: quantize.Scheme, images: np.ndarray) -> onnx.ModelProto:
        if scheme.name == "first":
            raise RuntimeError("two\nlines of trouble")
        return quantize.quantize(model, scheme, images)

    monkeypatch.setattr(int8, "quantize", broken)
    schemes = (quantize.Scheme("first", "nothing"), quantize.Scheme("second", "onnxruntime_qdq"))
    monkeypatch.setitem(int8.SCHEMES, "cpu", schemes)
    said: list[str] = []
    tried = search(case, said)
    assert "could not be made (two lines of trouble)" in said[0]
    assert {attempt.scheme.name for attempt in tried} == {"second"}


def test_everything_failing_ships_fp32(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(int8.SCHEMES, "cpu", (quantize.Scheme("first", "nothing"),))
    said: list[str] = []
    assert search(case, said) == []
    assert "FP32 ships" in said[-1]


def test_a_refitted_head_makes_up_for_a_shifted_backbone(case) -> None:  # type: ignore[no-untyped-def]
    """A constant shift of every feature ruins FP32's head and is nothing to one that was fitted on it."""
    graph, exact, halves = case
    shifted = exact.features + 5 * exact.features.std(axis=0)
    judged = halves.judged_by_shipped, ~halves.judged_by_shipped
    pair, scheme = int8._Pair((graph, graph), judged, shifted), quantize.Scheme("shift", "none")
    plain = int8._plain(scheme, pair, exact)
    refitted = int8._refitted(scheme, pair, exact, FIT, lambda graph, chosen, _: shifted[chosen], lambda *_: None)
    assert not plain.verdict["passed"] and refitted.verdict["passed"]
    assert refitted.scores["block"]["agreement_fp32"] > 95 > plain.scores["block"]["agreement_fp32"]


def test_no_scheme_lets_a_node_of_the_head_or_the_preprocessing_be_rounded(tmp_path: Path, case) -> None:  # type: ignore[no-untyped-def]
    graph, exact, _ = case
    images = np.stack(list(features.decoded(exact.data.paths[:4], SIZE)))
    for schemes in quantize.SCHEMES.values():
        made = quantize.quantize(graph, schemes[0], images)
        rounded = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        producers = {name: node for node in made.graph.node for name in node.output}
        pooled = next(node for node in made.graph.node if node.op_type == "GlobalAveragePool")
        assert not set(made.graph.output[0].name.split()) & rounded
        for node in made.graph.node:
            if node.name in ("preprocess/Mul", "preprocess/Add"):
                assert not set(node.input) & rounded
        assert pooled.input[0] in producers
