"""The limit of what is familiar is set on an early place, whatever place the head reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, Engine, graph

from edge_all.export import backbones
from edge_all.export.assemble.cut import cut
from edge_all.export.assemble.fuse import fuse
from edge_all.export.backbones import Guard
from edge_all.export.features import Rows
from edge_all.export.head import drift, evaluate, familiarity
from edge_all.export.head.drift import Drift
from edge_all.export.head.familiarity import Early, Judge
from edge_all.export.head.fit import Head, HeadSpec

SIZE = (64, 64)

BOTH = "features.4:std+features.8:std"
"""Where the early places are, if the head reads late ones."""

BEFORE = "features.4:std+features.7:std"
"""Likewise, if it reads the second of these."""


@pytest.mark.parametrize(
    ("tap", "wanted"),
    [
        ("features.4:std", None),
        ("features.1:std+features.4:std", None),
        ("last", Guard(BOTH, f"features.18+{BOTH}", 1280, range(1280, 1472))),
        ("features.18:std", Guard(BOTH, f"features.18:std+{BOTH}", 2560, range(2560, 2752))),
        ("features.8", Guard(BEFORE, f"features.8+{BEFORE}", 64, range(64, 256))),
        ("features.4", Guard("features.3:std", "features.4+features.3:std", 32, range(32, 80))),
        ("features.2", Guard("features.1:std", "features.2+features.1:std", 24, range(24, 56))),
        ("features.3:std+features.18", Guard("features.3:std", "features.3:std+features.18", 1328, range(48))),
        ("features.18+features.3:std", Guard("features.3:std", "features.18+features.3:std", 1328, range(1280, 1328))),
        ("features.1", None),
    ],
)
def test_which_place_it_is(tap: str, wanted: Guard | None) -> None:
    assert backbones.guard(backbones.load("mobilenetv2"), tap) == wanted


@pytest.mark.parametrize("name", backbones.names())
def test_every_backbone_has_one_for_its_last_tap(name: str) -> None:
    backbone = backbones.load(name)
    found = backbones.guard(backbone, "last")
    assert found
    early = backbones.places(backbone, found.name)
    for place in early:
        assert place.std and place.tap.macs <= backbones.EARLY * backbones.places(backbone, "last")[0].tap.macs
    assert len(found.columns) == sum(place.channels for place in early) <= 1536
    whole = backbones.places(backbone, found.places)
    assert sum(end.channels for end in whole) == found.columns.stop


GUARD = Guard("features.2:std", "features.6+features.2:std", 32, range(32, 80))


@pytest.fixture(scope="module")
def backbone() -> onnx.ModelProto:
    return graph("mobilenetv2", GUARD.places, SIZE)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    rng = np.random.default_rng(0)
    tints = 1 - 0.5 * np.eye(3)[np.arange(60) % 3]
    return (rng.integers(90, 255, (60, *SIZE, 3)) * tints[:, None, None]).astype(np.uint8)


@pytest.fixture(scope="module")
def rows(backbone: onnx.ModelProto, images: np.ndarray) -> Rows:
    return Rows(ENGINES[0](backbone, image=images)["features"])


def _head(rows: Rows, selector: str) -> Head:
    spec = HeadSpec(selector, "svm", count=9, columns=GUARD.head)
    return evaluate.fit(rows, np.arange(60) % 3, spec)


def test_neither_selector_nor_classifier_sees_the_early_features(rows: Rows) -> None:
    head = _head(rows, "anova")
    assert head.channels == GUARD.head and head.kept is not None and head.kept.max() < GUARD.head
    other = rows.plain.copy()
    other[:, GUARD.columns] = 1e6
    assert np.array_equal(head.predict_proba(rows.plain), head.predict_proba(other))
    alone = evaluate.fit(Rows(rows.plain[:, : GUARD.head]), np.arange(60) % 3, HeadSpec("anova", "svm", count=9))
    assert np.array_equal(head.predict_proba(rows.plain), alone.predict_proba(rows.plain[:, : GUARD.head]))


def test_the_limit_sees_nothing_else(rows: Rows) -> None:
    early = Early.fit(GUARD, rows)
    gaussian = familiarity.fit(early, rows)
    other = rows.plain.copy()
    other[:, : GUARD.head] = 1e6
    given = familiarity.inputs_of(early, rows.plain)
    assert np.array_equal(given, familiarity.inputs_of(early, other))
    assert np.abs(given.mean(0)).max() < 1e-3 and given.std(0) == pytest.approx(1, abs=0.02)
    assert gaussian.distance(given).mean() < gaussian.distance(given + 4).min()


@pytest.mark.engine
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("selector", ["anova", "pca"])
def test_one_graph_answers_as_its_parts(
    selector: str, engine: Engine, backbone: onnx.ModelProto, rows: Rows, images: np.ndarray
) -> None:
    """Cut or not, probabilities, unfamiliarity and deviation are those of head, early place and drift check."""
    head, early = _head(rows, selector), Early.fit(GUARD, rows)
    gaussian, of_head = familiarity.fit(early, rows), familiarity.fit(head, rows)
    inputs = familiarity.classifier_input(head, rows.plain)
    rng = np.random.default_rng(1)
    drifting = Drift(inputs.mean(0), rng.normal(size=(inputs.shape[1], 2)) / 9, rng.normal(size=(3, 2)), 20, "block")
    parts = cut(backbone, head, GUARD)
    judges = [Judge(of_head, 9.0), Judge(gaussian, 50.0, early, parts.early)]
    extended = familiarity.with_output(parts.head, judges)
    extended = drift.with_output(extended, drifting)
    given = engine(fuse(parts.backbone, extended, name="x"), image=images)
    probabilities = head.predict_proba(rows.plain)
    np.testing.assert_allclose(given["probabilities"], probabilities, atol=2e-3)
    distances = of_head.distance(inputs) / 9, gaussian.distance(familiarity.inputs_of(early, rows.plain)) / 50
    assert min(np.mean(distances[0] > distances[1]), np.mean(distances[0] < distances[1])) > 0.1
    np.testing.assert_allclose(given["unfamiliarity"], np.maximum(*distances), rtol=2e-2, atol=1e-2)
    np.testing.assert_allclose(given["deviation"], drifting.scores(inputs, probabilities), atol=2e-2)
    if selector == "anova":
        assert parts.after.macs < parts.before.macs


def test_without_a_guard_nothing_is_added(backbone: onnx.ModelProto, rows: Rows) -> None:
    spec = HeadSpec("anova", "svm", count=9)
    head = evaluate.fit(rows, np.arange(60) % 3, spec)
    parts = cut(backbone, head)
    assert parts.early is None
    assert "Slice" not in {node.op_type for node in parts.head.graph.node}
    assert replace(spec, columns=rows.plain.shape[1]).fit(rows.plain, np.arange(60) % 3).channels == head.channels
