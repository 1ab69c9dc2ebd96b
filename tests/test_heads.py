"""Every selector x classifier head in ONNX Runtime and in OpenVINO against scikit-learn, on held-out rows."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from helpers_graphs import ENGINES, Engine, by_onnxruntime, check_conformance, check_standard

from edge_all.errors import HeadError
from edge_all.export import classifiers, selectors
from edge_all.export.head.fit import Head, HeadSpec, to_onnx

pytestmark = pytest.mark.engine

TRAIN, TEST, CHANNELS, CLASSES = 700, 600, 200, 4


@cache
def pooled() -> tuple[np.ndarray, np.ndarray]:
    """Rows like pooled CNN features: not negative, sparse, correlated, on many scales, classes overlapping."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, TRAIN + TEST)
    centres = 0.35 * rng.normal(size=(CLASSES, CHANNELS))
    shared = 0.4 * rng.normal(size=(len(labels), 20)) @ rng.normal(size=(20, CHANNELS))
    rows = np.maximum(0, centres[labels] + shared + rng.normal(size=shared.shape)) * np.exp(rng.normal(size=CHANNELS))
    rows[:, 7] = 0  # a dead channel
    return rows.astype(np.float32), labels


@cache
def fitted(selector: str, classifier: str, count: int | None = 80) -> tuple[Head, onnx.ModelProto]:
    rows, labels = pooled()
    head = HeadSpec(selector=selector, classifier=classifier, count=count).fit(rows[:TRAIN], labels[:TRAIN])
    return head, to_onnx(head)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("classifier", classifiers.names())
@pytest.mark.parametrize("selector", selectors.names())
def test_conformance(selector: str, classifier: str, engine: Engine) -> None:
    head, model = fitted(selector, classifier)
    rows = pooled()[0][TRAIN:]
    wanted = head.predict_proba(rows)
    answer = engine(model, features=rows)
    given, label = answer["probabilities"], answer["label"]
    check_conformance(given, wanted, classifier, least_clear=300)
    np.testing.assert_array_equal(label, given.argmax(1))
    assert given.dtype == np.float32 and label.dtype == np.int64


@pytest.mark.parametrize("classifier", classifiers.names())
@pytest.mark.parametrize("selector", selectors.names())
def test_form(selector: str, classifier: str) -> None:
    head, model = fitted(selector, classifier)
    check_standard(model)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert all(node.name.startswith("head/") for node in model.graph.node)
    assert not {"Loop", "Scan", "If"} & {node.op_type for node in model.graph.node}
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.DOUBLE]
    assert not floats, "the head is float32"
    rows = pooled()[0][TRAIN : TRAIN + 3]
    together = by_onnxruntime(model, features=rows)["probabilities"]
    alone = np.concatenate([by_onnxruntime(model, features=row[np.newaxis])["probabilities"] for row in rows])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    assert head.features == 80 or selector == "lasso"
    assert (head.kept is None) == (selector == "pca")


@pytest.mark.parametrize("classifier", classifiers.names())
def test_two_classes(classifier: str) -> None:
    rows, labels = pooled()
    chosen = np.flatnonzero(labels < 2)
    head = HeadSpec(selector="anova", classifier=classifier, count=20).fit(rows[chosen[:200]], labels[chosen[:200]])
    for engine in ENGINES:
        given = engine(to_onnx(head), features=rows[chosen[200:]])["probabilities"]
        np.testing.assert_allclose(given, head.predict_proba(rows[chosen[200:]]), atol=1e-3)


def test_features_far_from_zero_keep_their_digits() -> None:
    """An offset of a thousand standard deviations must not eat the answer."""
    rows, labels = pooled()
    far = rows[:, :40] + 1000 * rows[:, :40].std(axis=0)
    for selector in ("anova", "pca"):
        head = HeadSpec(selector=selector, classifier="svm", count=20).fit(far[:TRAIN], labels[:TRAIN])
        given = by_onnxruntime(to_onnx(head), features=far[TRAIN:])["probabilities"]
        assert np.abs(given - head.predict_proba(far[TRAIN:])).max() < 5e-3


def test_same_seed_same_head() -> None:
    rows, labels = pooled()
    for classifier in ("svm", "random_forest"):
        a, b = (
            to_onnx(
                HeadSpec(selector="random_forest", classifier=classifier, count=30, seed=3).fit(
                    rows[:300], labels[:300]
                )
            )
            for _ in range(2)
        )
        assert a.SerializeToString(deterministic=True) == b.SerializeToString(deterministic=True)


def test_default_count_is_bounded_by_what_there_is() -> None:
    rows, labels = pooled()
    assert HeadSpec(selector="anova", classifier="naive_bayes").fit(rows[:300, :64], labels[:300]).features == 64
    assert HeadSpec(selector="pca", classifier="naive_bayes").fit(rows[:300], labels[:300]).features == 32
    assert HeadSpec(selector="pca", classifier="naive_bayes").fit(rows[:300, :20], labels[:300]).features == 20


@pytest.mark.parametrize("selector", selectors.names())
@pytest.mark.parametrize("count", [0, CHANNELS + 1])
def test_count_out_of_range(selector: str, count: int) -> None:
    rows, labels = pooled()
    with pytest.raises(HeadError, match=rf"--features {count} was given.*give at most {CHANNELS}"):
        HeadSpec(selector=selector, classifier="svm", count=count).fit(rows[:300], labels[:300])


def test_an_empty_selection_is_an_error() -> None:
    """Pure noise: the Lasso keeps nothing."""
    rng = np.random.default_rng(0)
    noise, labels = np.ones((400, 30), np.float32), rng.integers(0, 4, 400)
    with pytest.raises(HeadError, match="kept none of 30 features"):
        HeadSpec(selector="lasso", classifier="svm").fit(noise, labels)


def test_data_that_cannot_be_fitted() -> None:
    rows, labels = pooled()
    broken = rows[:50].copy()
    broken[3, 4] = np.nan
    with pytest.raises(HeadError, match="1 of 50 images have features that are not finite"):
        HeadSpec(selector="anova", classifier="svm").fit(broken, labels[:50])
    with pytest.raises(HeadError, match="wanted at least 2"):
        HeadSpec(selector="anova", classifier="svm").fit(rows[:50], np.zeros(50, np.int64))
    few = np.array([0] * 48 + [1] * 2)
    with pytest.raises(HeadError, match="a class has 2 images"):
        HeadSpec(selector="anova", classifier="svm").fit(rows[:50], few)
