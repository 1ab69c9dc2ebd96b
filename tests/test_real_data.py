"""The claims on real fields; runs where EDGE_ALL_DATA names a folder with one folder a class."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers_command import Command
from helpers_graphs import ENGINES, Engine, check_conformance

from edge_all import bench, bundle
from edge_all.export import backbones, classifiers, features, selectors
from edge_all.export.dataset import read
from edge_all.export.graph import weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head.fit import Head, HeadSpec, to_onnx

DATA = os.environ.get("EDGE_ALL_DATA")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="EDGE_ALL_DATA names no folder of real images"),
]

TRAIN, TEST = 800, 400


@cache
def real_rows() -> tuple[np.ndarray, np.ndarray]:
    """Features of EfficientNet-Lite0's last layer, and labels: some of the fields, shuffled."""
    data = read(Path(str(DATA)))
    order = np.random.default_rng(0).permutation(len(data))
    some = data.take(order[: TRAIN + TEST])
    backbone = backbones.load("efficientnet_lite0")
    graph = backbone_graph(backbone, weights.load(backbone, "auto"))
    shuffled = np.random.default_rng(1).permutation(len(some))
    return features.extract(graph, some, backbone.input_size)[shuffled], some.labels[shuffled]


@cache
def fitted(selector: str, classifier: str) -> tuple[Head, onnx.ModelProto]:
    rows, labels = real_rows()
    head = HeadSpec(selector=selector, classifier=classifier).fit(rows[:TRAIN], labels[:TRAIN])
    return head, to_onnx(head)


PAIRS = [
    (selector, classifier)
    for selector in selectors.names()
    for classifier in classifiers.names()
    if selector == "anova" or classifier == "svm" or os.environ.get("EDGE_ALL_WHOLE")
]
"""Each selector and each classifier; all pairs where EDGE_ALL_WHOLE is set. On drawn features test_heads.py has all."""


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("selector", "classifier"), PAIRS)
def test_every_head_on_real_features(selector: str, classifier: str, engine: Engine) -> None:
    head, model = fitted(selector, classifier)
    rows, labels = real_rows()
    wanted = head.predict_proba(rows[TRAIN:])
    given = engine(model, features=rows[TRAIN:])["probabilities"]
    check_conformance(given, wanted, classifier, least_clear=300)
    assert (wanted.argmax(1) == labels[TRAIN:]).mean() > 0.75, "the head itself is of no use: the largest class is 0.3"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_builtin_bundle_on_fields_it_has_not_seen(edge_all_program: Command, tmp_path: Path, target: str) -> None:
    built_in = bundle.load(bundle.BUILTIN)
    fresh = bench.labelled(Path(str(DATA)), built_in)
    if fresh.basis != "unseen":
        pytest.skip("every image here was in its training set")
    report = tmp_path / "report.json"
    words = ("--bundle", bundle.BUILTIN, "--data", DATA, "--target", target, "--json", report)
    done = edge_all_program("bench", *words, timeout=300)
    assert done.returncode == 0, done.stderr
    for row in json.loads(report.read_text())["rows"]:
        assert row["images"] == len(fresh.files) >= 300
        assert row["accuracy"] >= 95 and row["agreement_fp32"] >= 99
