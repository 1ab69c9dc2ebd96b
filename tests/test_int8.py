"""The search for an INT8 graph: what is refused, what fails, and what a refitted head saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import by_onnxruntime, random_weights

from edge_all.export import backbones, features
from edge_all.export.dataset import folds, groups, read
from edge_all.export.dataset.synthetic import draw
from edge_all.export.graph import timing
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head import evaluate
from edge_all.export.head.evaluate import Rows
from edge_all.export.head.fit import fit_head
from edge_all.export.head.fit import to_onnx as head_to_onnx
from edge_all.export.quantize import calibration, heads, schemes, search
from edge_all.export.quantize.heads import Exact

SIZE = (64, 64)

FIT = partial(fit_head, selector="anova", classifier="svm", count=12)


@contextmanager
def _step(title: str) -> Iterator[features.Progress]:
    yield lambda done, total: None


@pytest.fixture(autouse=True)
def untimed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are the benchmarks' affair: here every INT8 graph is twice as fast, unless a test wants the real thing."""
    if "engine" not in request.node.name:
        monkeypatch.setattr(timing, "times", lambda target, graphs: [2.0, *([1.0] * (len(graphs) - 1))])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> search.Case:
    data = read(draw(tmp_path_factory.mktemp("drawn"), per_class=12, seed=2))
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph(backbone, random_weights(backbone.name), tap_name="features.3", input_size=SIZE)
    rows = features.extract(graph, data.paths, data.digests, SIZE)
    near, block = groups(data), folds(data, "block")
    fitted = evaluate.fold_heads(Rows(rows), data.labels, block, FIT)
    answers = evaluate.answer(fitted, rows, block)
    score = evaluate.score(data.labels, answers, data.classes)
    exact = Exact(data, Rows(rows), {"block": block}, {"block": fitted}, {"block": answers}, {"block": score})
    return search.Case(graph, SIZE, exact, calibration.halves(block, near), FIT)


def searched(case: search.Case, said: list[str], target: str = "cpu", **kw: Any) -> search.Found:
    return search.search(target, replace(case, made={}), step=_step, tell=said.append, **kw)


def test_each_target_gets_int8_that_passes(case: search.Case) -> None:
    said: list[str] = []
    for target in schemes.SCHEMES:
        found = searched(case, said, target)
        assert found.shipped and found.shipped.scheme == schemes.SCHEMES[target][0], said
        assert (found.shipped.graph_ms is None) == (target == "gpu"), "nothing here tells what a GPU would take"
        assert [record["head"] for record in found.tried] == ["fp32", "realigned"]
        assert found.shipped.trained.scores["block"]["agreement_fp32"] >= 95


def _spoiled(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray) -> onnx.ModelProto:
    """Calibrated on black images only: every range is far too narrow."""
    return schemes.quantize(model, schemes.Scheme("qdq", "onnxruntime_qdq"), np.zeros_like(images))


def test_a_spoiled_calibration_is_refused(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "quantize", _spoiled)
    said: list[str] = []
    found = searched(case, said, schemes=(schemes.Scheme("spoiled", "none"),))
    plain = [record for record in found.tried if record["head"] == "fp32"]
    assert plain and not any(record["passed"] for record in plain)
    if not found.shipped:
        assert any("refused by the gate" in line for line in said) and "FP32 ships" in said[-1]


def test_nothing_ships_that_no_head_can_read(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that say nothing: FP32 ships, and the record says what was tried."""

    def blind(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray) -> onnx.ModelProto:
        made = onnx.ModelProto()
        made.CopyFrom(model)
        pooled = made.graph.node[-1].input[0]
        made.graph.node[-1].input[0] = "constant"
        rng = np.random.default_rng(0)
        shape = (1, model.graph.output[0].type.tensor_type.shape.dim[1].dim_value)
        noise = onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), "noise")
        made.graph.initializer.append(noise)
        scaled = onnx.helper.make_node("Mul", ["pooled_flat", "zero"], ["blank"])
        made.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
        flat = onnx.helper.make_node("Flatten", [pooled], ["pooled_flat"], axis=1)
        added = onnx.helper.make_node("Add", ["blank", "noise"], ["constant"])
        last = made.graph.node.pop()
        made.graph.node.extend([flat, scaled, added, last])
        return made

    monkeypatch.setattr(search, "quantize", blind)
    said: list[str] = []
    found = searched(case, said, schemes=(schemes.Scheme("blind", "none"),))
    assert found.best and not found.shipped and "FP32 ships" in said[-1]
    assert not any(record["passed"] for record in found.tried)


def test_a_scheme_that_fails_is_no_end(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray) -> onnx.ModelProto:
        if scheme.name == "first":
            raise RuntimeError("two\nlines of trouble")
        return schemes.quantize(model, scheme, images)

    monkeypatch.setattr(search, "quantize", broken)
    tried = schemes.Scheme("first", "nothing"), schemes.Scheme("second", "onnxruntime_qdq")
    said: list[str] = []
    found = searched(case, said, schemes=tried)
    assert "could not be made (two lines of trouble)" in said[0]
    assert found.tried[0] == {"scheme": "first", "failed": "two lines of trouble"}
    assert {record["scheme"] for record in found.tried[1:]} == {"second"}


def test_everything_failing_ships_fp32(case: search.Case) -> None:
    said: list[str] = []
    found = searched(case, said, schemes=(schemes.Scheme("first", "nothing"),))
    assert found.best is None and "FP32 ships" in said[-1]


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_an_engine_times_graphs(case: search.Case, target: str) -> None:
    times = timing.times(target, [case.graph, case.graph])
    assert len(times) == 2 and min(times) > 0


def test_int8_that_is_no_faster_is_refused(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "times", lambda target, graphs: [1.0] * len(graphs))
    monkeypatch.setattr(search, "_with_float_layers", lambda *_: None)
    said: list[str] = []
    found = searched(case, said, schemes=schemes.SCHEMES["cpu"][:1])
    assert found.best and found.best.trained.verdict["passed"] and not found.shipped
    assert "1.00 ms against FP32's 1.00 ms" in said[0]


def test_a_graph_that_kills_the_engine_is_a_failed_scheme(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_PROGRAM", ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    said: list[str] = []
    found = searched(case, said, schemes=schemes.SCHEMES["cpu"][:1])
    assert found.best is None and "signal 11" in found.tried[0]["failed"]


def test_the_worst_layers_go_back_to_float(case: search.Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that wants more than the scheme gives: floats are added until it is content, or a quarter is float."""
    counts: list[int] = []
    real = schemes.quantize

    def watched(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray) -> onnx.ModelProto:
        counts.append(len(scheme.options.get("floating", ())))
        return real(model, scheme, images)

    monkeypatch.setattr(search, "quantize", watched)
    monkeypatch.setattr(search.Attempt, "passed", property(lambda self: self.scheme.name.endswith("2-float")))
    found = searched(case, [], schemes=schemes.SCHEMES["cpu"][:1])
    assert counts == [0, 0, 1, 1, 2, 2] and found.shipped
    kept = {node.name for node in found.shipped.pair.graphs[0].graph.node if node.op_type == "Conv"}
    quantized = {name for name in kept if f"{name}/weights" in _constants(found.shipped.pair.graphs[0])}
    assert len(kept - quantized) == 2


def _constants(model: onnx.ModelProto) -> set[str]:
    return {constant.name for constant in model.graph.initializer}


def test_heads_make_up_for_a_shifted_backbone(case: search.Case) -> None:
    """A constant shift of every feature ruins FP32's head, and is nothing to one that was laid or fitted on it."""
    exact = case.exact
    shifted = exact.rows.plain + 5 * exact.rows.plain.std(axis=0)
    judged = case.halves.judged_by_shipped, ~case.halves.judged_by_shipped
    pair = heads.Pair((case.graph, case.graph), judged, shifted)
    plain, realigned = heads.plain(pair, exact), heads.realigned(pair, exact)
    refitted = heads.refitted(pair, (Rows(shifted), Rows(shifted)), exact, FIT)
    assert not plain.verdict["passed"] and plain.scores["block"]["agreement_fp32"] < 95
    assert realigned.verdict["passed"] and realigned.scores["block"]["agreement_fp32"] > 97
    assert refitted.verdict["passed"] and refitted.scores["block"]["agreement_fp32"] > 95
    head = FIT(exact.rows.plain, exact.data.labels)
    shipped = realigned.ship(head)
    assert np.abs(shipped.predict_proba(shifted) - head.predict_proba(exact.rows.plain)).max() < 0.05
    graph = head_to_onnx(shipped)
    by_graph = by_onnxruntime(graph, features=shifted)["probabilities"]
    assert np.abs(by_graph - shipped.predict_proba(shifted)).max() < 1e-4


def test_no_scheme_lets_a_node_of_the_preprocessing_or_the_pooling_be_rounded(case: search.Case) -> None:
    images = np.stack(list(features.decoded(case.exact.data.paths[:4], SIZE)))
    for scheme in (*(own[0] for own in schemes.SCHEMES.values()), schemes.scheme("cpu", "qdq-minmax")):
        made = schemes.quantize(case.graph, scheme, images)
        rounded = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        assert made.graph.output[0].name not in rounded
        for node in made.graph.node:
            if node.name in ("preprocess/Mul", "preprocess/Add"):
                assert not set(node.input) & rounded
