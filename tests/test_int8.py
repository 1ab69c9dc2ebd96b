"""The search for an INT8 graph: what is refused, what fails, and what a refitted head saves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from helpers_graphs import by_onnxruntime, random_weights

from edge_all import machine
from edge_all.export import backbones, features
from edge_all.export.dataset import folds, groups, read
from edge_all.export.features import Rows
from edge_all.export.graph import timing
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head.fit import HeadSpec
from edge_all.export.head.fit import to_onnx as head_to_onnx
from edge_all.export.head.reference import measure
from edge_all.export.head.scorer import Scorer
from edge_all.export.quantize import calibration, heads, schemes, search
from edge_all.export.quantize.attempt import Attempt, SearchResult
from edge_all.intervals import NEAR_DUPLICATES, Units
from edge_all.progress import Console, Progress, ignore
from edge_all.record import FailedScheme, TriedHead

pytestmark = pytest.mark.slow

SIZE = (64, 64)

SPEC = HeadSpec(selector="anova", classifier="svm", count=12)


@contextmanager
def _step(title: str) -> Iterator[Progress]:
    yield ignore


@pytest.fixture(autouse=True)
def _untimed(request: pytest.FixtureRequest) -> None:
    """No times, unless a test wants the real thing."""
    if "engine" not in request.node.name:
        request.getfixturevalue("untimed")


@pytest.fixture(scope="module")
def case(tinted: Path) -> search.Quantizer:
    data = read(tinted)
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph(backbone, random_weights(backbone.name), tap_name="features.3", input_size=SIZE)
    rows = features.extract(graph, data, SIZE)
    near, block = groups(data), folds(data, "block")
    reference = measure(graph, Scorer(data, Units(near, NEAR_DUPLICATES)), Rows(rows), {"block": block}, SPEC)
    return search.Quantizer(reference, calibration.halves(block, near))


def _tried_heads(found: SearchResult) -> list[TriedHead]:
    """Every attempt, none of which failed."""
    assert all("head" in record for record in found.tried)
    return cast(list[TriedHead], list(found.tried))


def searched(case: search.Quantizer, said: list[str], target: str = "cpu", **kw: Any) -> SearchResult:
    return search.search(target, replace(case, graphs={}), Console(_step, said.append), **kw)


def test_each_target_gets_int8_that_passes(case: search.Quantizer) -> None:
    said: list[str] = []
    for target in schemes.SCHEMES:
        found = searched(case, said, target)
        assert found.shipped and found.shipped.scheme == schemes.SCHEMES[target][0], said
        assert (found.shipped.graph_ms is None) == (target == "gpu"), "nothing here tells what a GPU would take"
        assert [record["head"] for record in _tried_heads(found)] == ["fp32", "realigned"]
        assert found.shipped.head.scores["block"]["agreement_fp32"] >= 95


@pytest.mark.parametrize(("sets", "tried"), [(["AVX2"], 1), (["AVX2", "AVX-VNNI"], 3)])
def test_what_overflows_here_is_not_tried(monkeypatch: pytest.MonkeyPatch, sets: list[str], tried: int) -> None:
    monkeypatch.setattr(machine, "instruction_sets", lambda: sets)
    assert len(schemes.of_target("cpu")) == tried
    assert schemes.named("cpu", "layerwise-8bit").overflows, "it can be asked for"


def _spoiled(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray, *_: Any) -> onnx.ModelProto:
    """Calibrated on black images only: every range is far too narrow."""
    return schemes.quantize(model, schemes.Scheme("qdq", "onnxruntime_qdq"), np.zeros_like(images))


def test_a_spoiled_calibration_is_refused(case: search.Quantizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "quantize", _spoiled)
    said: list[str] = []
    found = searched(case, said, schemes=(schemes.Scheme("spoiled", "none"),))
    plain = [record for record in _tried_heads(found) if record["head"] == "fp32"]
    assert plain and not any(record["passed"] for record in plain)
    if not found.shipped:
        assert any("refused by the gate" in line for line in said) and "FP32 ships" in said[-1]


def test_nothing_ships_that_no_head_can_read(case: search.Quantizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that say nothing: FP32 ships, and the record says what was tried."""

    def blind(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray, *_: Any) -> onnx.ModelProto:
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
    assert not any(record["passed"] for record in _tried_heads(found))


def test_a_scheme_that_fails_is_no_end(case: search.Quantizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray, *_: Any) -> onnx.ModelProto:
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


def test_everything_failing_ships_fp32(case: search.Quantizer) -> None:
    said: list[str] = []
    found = searched(case, said, schemes=(schemes.Scheme("first", "nothing"),))
    assert found.best is None and "FP32 ships" in said[-1]


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_an_engine_times_graphs(case: search.Quantizer, target: str) -> None:
    times = timing.times(target, [case.reference.graph, case.reference.graph])
    assert len(times) == 2 and min(times) > 0


def test_int8_that_is_no_faster_is_refused(case: search.Quantizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "times", lambda target, graphs: [1.0] * len(graphs))
    monkeypatch.setattr(search, "_with_float_layers", lambda *_: pytest.fail("float layers make nothing faster"))
    said: list[str] = []
    found = searched(case, said, schemes=schemes.SCHEMES["cpu"][:1])
    assert found.best and found.best.head.verdict["passed"] and not found.shipped
    assert "1.00 ms against FP32's 1.00 ms" in said[0]


def test_a_graph_that_kills_the_engine_is_a_failed_scheme(
    case: search.Quantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "_PROGRAM", ("-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"))
    said: list[str] = []
    found = searched(case, said, schemes=schemes.SCHEMES["cpu"][:1])
    assert found.best is None and "signal 11" in cast(FailedScheme, found.tried[0])["failed"]


def test_the_worst_layers_go_back_to_float(case: search.Quantizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that asks for more than the scheme gives: float layers are added until it passes."""
    counts: list[int] = []
    real = schemes.quantize

    def watched(model: onnx.ModelProto, scheme: schemes.Scheme, images: np.ndarray, *_: Any) -> onnx.ModelProto:
        counts.append(len(scheme.options.get("floating", ())))
        return real(model, scheme, images)

    monkeypatch.setattr(search, "quantize", watched)
    monkeypatch.setattr(Attempt, "accurate", property(lambda self: self.scheme.name.endswith("2-float")))
    found = searched(case, [], schemes=schemes.SCHEMES["cpu"][:1])
    assert counts == [0, 0, 1, 1, 2, 2] and found.shipped
    kept = {node.name for node in found.shipped.pair.graphs[0].graph.node if node.op_type == "Conv"}
    quantized = {name for name in kept if f"{name}/weights" in _constants(found.shipped.pair.graphs[0])}
    assert len(kept - quantized) == 2


def _constants(model: onnx.ModelProto) -> set[str]:
    return {constant.name for constant in model.graph.initializer}


def test_heads_make_up_for_a_shifted_backbone(case: search.Quantizer) -> None:
    """A constant shift of every feature ruins FP32's head, and is nothing to one that was laid or fitted on it."""
    reference = case.reference
    shifted = reference.rows.plain + 5 * reference.rows.plain.std(axis=0)
    evaluated = case.halves.evaluated_by_shipped, ~case.halves.evaluated_by_shipped
    pair = heads.QuantizedPair((reference.graph, reference.graph), evaluated, shifted)
    plain, realigned = heads.plain(pair, reference), heads.realigned(pair, reference)
    refitted = heads.refitted(pair, (Rows(shifted), Rows(shifted)), reference)
    assert not plain.verdict["passed"] and plain.scores["block"]["agreement_fp32"] < 95
    assert realigned.verdict["passed"] and realigned.scores["block"]["agreement_fp32"] > 97
    assert refitted.verdict["passed"] and refitted.scores["block"]["agreement_fp32"] > 95
    head = SPEC.fit(reference.rows.plain, reference.data.labels)
    shipped = realigned.ship(head)
    assert np.abs(shipped.predict_proba(shifted) - head.predict_proba(reference.rows.plain)).max() < 0.05
    graph = head_to_onnx(shipped)
    by_graph = by_onnxruntime(graph, features=shifted)["probabilities"]
    assert np.abs(by_graph - shipped.predict_proba(shifted)).max() < 1e-4


def test_no_scheme_lets_a_node_of_the_preprocessing_or_the_pooling_be_rounded(case: search.Quantizer) -> None:
    images = np.stack(list(features.decoded(case.reference.data.paths[:4], SIZE)))
    others = schemes.named("cpu", "qdq-minmax"), schemes.named("openvino", "nncf-fast-bias")
    for scheme in (*(own[0] for own in schemes.SCHEMES.values()), *others):
        made = schemes.quantize(case.reference.graph, scheme, images)
        rounded = {name for node in made.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        assert made.graph.output[0].name not in rounded
        for node in made.graph.node:
            if node.name in ("preprocess/Mul", "preprocess/Add"):
                assert not set(node.input) & rounded
