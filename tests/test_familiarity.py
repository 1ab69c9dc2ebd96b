"""Answers that know their limits: unfamiliar pictures and undecided ones, in the graph and in the runtime."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_picture, write_colour_bundle
from helpers_command import Command
from helpers_graphs import ENGINES, Engine

from edge_all import bundle as bundles
from edge_all import load
from edge_all.bench import worker
from edge_all.bench.rows import Job
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.export.features import Rows
from edge_all.export.head import evaluate, familiarity, fold_checks
from edge_all.export.head.familiarity import Judge
from edge_all.export.head.fit import Head, HeadSpec, to_onnx
from edge_all.export.head.fold_checks import FoldChecks
from edge_all.targets import Answers


def _training(seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Features with a tight correlation that an outsider breaks while every single one stays in its range."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    hidden = rng.normal(size=(300, 6)) + 0.8 * np.eye(6)[labels]
    mixing = np.random.default_rng(99).normal(size=(6, 20))
    rows = (hidden @ mixing + 0.05 * rng.normal(size=(300, 20)) + 4).astype(np.float32)
    return Rows(rows, (rows + 0.05 * rng.normal(size=rows.shape).astype(np.float32),)), labels


def _fit(selector: str) -> tuple[Head, Rows, np.ndarray]:
    rows, labels = _training()
    shown = np.tile(np.arange(300), 2)
    whole = np.concatenate([rows.plain, *rows.copies])
    head = HeadSpec(selector=selector, classifier="svm", count=12).fit(whole, labels[shown], shown)
    return head, rows, labels


@pytest.mark.engine
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("selector", ["anova", "pca"])
def test_the_graph_tells_outsiders_from_fields(selector: str, engine: Engine) -> None:
    head, rows, labels = _fit(selector)
    folds = np.arange(300) % 5
    most = familiarity.limit(
        familiarity.held_out(familiarity.fit_folds([head] * 5, rows, folds), [head] * 5, rows.plain, folds)
    )
    gaussian = familiarity.fit(head, rows)
    model = familiarity.with_output(to_onnx(head), [Judge(gaussian, most)])
    wanted = gaussian.distance(familiarity.classifier_input(head, rows.plain)) / most
    given = engine(model, features=rows.plain)
    np.testing.assert_allclose(given["unfamiliarity"], wanted, rtol=5e-3, atol=1e-4)
    assert np.abs(given["probabilities"] - head.predict_proba(rows.plain)).max() <= 1e-3
    assert (given["unfamiliarity"] <= 1).mean() >= 0.97
    rng = np.random.default_rng(5)
    shuffled = np.stack([rng.permutation(column) for column in rows.plain.T], axis=1)
    if selector == "anova":
        assert (engine(model, features=shuffled)["unfamiliarity"] > 1).mean() >= 0.95
    far = rows.plain + 8 * rows.plain.std(0)
    assert (engine(model, features=far)["unfamiliarity"] > 1).mean() >= 0.95


def test_with_the_selection_already_made() -> None:
    head, rows, _ = _fit("anova")
    gaussian = familiarity.fit(head, rows)
    whole = familiarity.with_output(to_onnx(head), [Judge(gaussian, 3.0)])
    lesser = familiarity.with_output(to_onnx(head, selected=True), [Judge(gaussian, 3.0)])
    for engine in ENGINES:
        a = engine(whole, features=rows.plain)["unfamiliarity"]
        b = engine(lesser, features=rows.plain[:, head.kept])["unfamiliarity"]
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_the_limit_is_set_on_what_was_not_seen() -> None:
    """With many features and few images, an image lies nearer to a Gaussian that has seen it: that must not count."""
    rng = np.random.default_rng(0)
    rows, labels = Rows(rng.normal(size=(60, 40)).astype(np.float32)), np.arange(60) % 2
    head = HeadSpec(selector="anova", classifier="naive_bayes", count=40).fit(rows.plain, labels)
    folds = np.arange(60) % 5
    unseen = familiarity.held_out(familiarity.fit_folds([head] * 5, rows, folds), [head] * 5, rows.plain, folds)
    seen = familiarity.fit(head, rows).distance(familiarity.classifier_input(head, rows.plain))
    assert (unseen > 1.01 * seen).mean() >= 0.95
    assert (unseen <= familiarity.limit(unseen)).mean() >= 0.98


def test_referral_keeps_the_share_that_it_says() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, 2000)
    right = rng.random(2000) < sure
    probabilities = np.stack([sure, 1 - sure], 1)
    found = familiarity.referral(np.where(right, 0, 1), probabilities)
    assert abs(found["coverage"] - familiarity.COVERAGE) < 0.2
    errors = [point["error"] for point in found["curve"]]
    assert errors[0] == pytest.approx(100 * (1 - right.mean()), abs=0.01) and errors[-1] < errors[0]
    assert [round(point["coverage"]) for point in found["curve"]] == [100, 99, 98, 95, 90, 85, 80, 70]


@pytest.fixture
def careful(tmp_path: Path) -> Bundle:
    """The bundle of colours, which refers what is under 60 %."""
    made = write_colour_bundle(tmp_path / "careful")
    record = {key: value for key, value in made.record.items() if key != "files"}
    files = {name: made.read(name) for name in made.record["files"]}
    referral = {"threshold": 0.6, "coverage": 95.0, "error": 1.0, "protocol": "block", "curve": []}
    return bundles.write(made.path, cast(Any, record | {"referral": referral}), files)


def test_undecided_is_said(careful: Bundle, edge_all: Command, tmp_path: Path) -> None:
    from PIL import Image

    grey, clear = tmp_path / "grey.png", tmp_path / "clear.png"
    Image.new("RGB", (64, 48), (90, 90, 90)).save(grey)
    colour_picture(0).save(clear)
    classifier = load(careful.path)
    assert classifier.classify(grey).status == "refer" and classifier.classify(clear).status == "ok"
    done = edge_all("classify", grey, clear, "--bundle", careful.path, "--json")
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["refer", "ok"]
    shown = edge_all("classify", grey, clear, "--bundle", careful.path)
    assert f"{load(careful.path).classify(grey).label}?" in shown.stdout and "1 of 2 undecided" in shown.stderr
    table = edge_all("classify", grey, clear, "--bundle", careful.path, "--csv").stdout.splitlines()
    assert table[0].startswith("file,label,status,top,") and ",refer," in table[1] and ",ok," in table[2]
    assert len(CLASSES) == 3


class Stranger:
    """An engine to which every picture is unfamiliar, and most probably Green."""

    cached = None
    description = "an engine"

    def run(self, images: np.ndarray) -> Answers:
        return Answers(np.array([[0.1, 0.7, 0.2]], np.float32), np.array([1.5], np.float32))


def test_unfamiliar_has_no_label_and_the_accuracy_counts_the_top(
    careful: Bundle, coloured_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [str(path) for path in sorted(coloured_folder.rglob("*.png"))]
    classifier = Classifier(careful, "cpu", "fp32", cast(Any, Stranger()))
    prediction = classifier.classify(files[0])
    assert (prediction.label, prediction.status, prediction.top) == (None, "unfamiliar", "Green")
    monkeypatch.setattr(worker, "start", lambda *args: classifier)
    job: Job = {
        "bundle": str(careful.path), "digest": careful.digest,
        "target": "cpu", "precision": "fp32", "device": None, "threads": None,
        "files": files, "queries": 0, "seconds": 0.0,
    }  # fmt: skip
    measurement = worker.Measurement(job)
    assert measurement.turn(60.0) == 1.0
    assert measurement.answers == [CLASSES.index("Green")] * len(files)
    assert measurement.figures()["statuses"] == {"unfamiliar": len(files)}


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_the_built_in_bundle_names_no_class_for_what_is_no_smear(
    target: str, edge_all: Command, tmp_path: Path
) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    stripes = (np.arange(256) // 16 % 2 * 255).astype(np.uint8)
    pictures = {
        "noise": Image.fromarray(rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)),
        "black": Image.new("RGB", (300, 300)),
        "white": Image.new("RGB", (300, 300), "white"),
        "stripes": Image.fromarray(np.repeat(stripes[:, None, None], 256, 1).repeat(3, 2)),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
    done = edge_all("classify", tmp_path, "--target", target, "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(line["file"]).stem: line["status"] for line in found} == dict.fromkeys(pictures, "unfamiliar")
    assert all(line["label"] is None and line["top"] in line["probabilities"] for line in found)
    assert done.stderr.splitlines()[-2:] == [
        "edge-all: 0 ok, 0 refer, 4 unfamiliar",
        "edge-all: 4 answered, 0 refused, 0 not looked at",
    ]
    table = list(csv.DictReader(edge_all("classify", tmp_path, "--target", target, "--csv").stdout.splitlines()))
    assert [(row["label"], row["top"]) for row in table] == [("", line["top"]) for line in found]
    shown = edge_all("classify", tmp_path / "black.png", "--target", target)
    assert shown.stdout.startswith("unfamiliar") and "1 of 1 unfamiliar" in shown.stderr


def test_several_limits_let_pass_what_one_would_and_the_early_one_refuses_most() -> None:
    rng = np.random.default_rng(0)
    distances = rng.chisquare(4, (2, 4000)) * [[1.0], [50.0]]
    most = familiarity.limits(distances)
    assert familiarity.within(distances, most).mean() == pytest.approx(0.99, abs=0.0005)
    refused = (distances > most[:, np.newaxis]).sum(1)
    assert refused[1] == pytest.approx(4 * refused[0], abs=4)
    assert familiarity.limits(distances[:1])[0] == pytest.approx(np.quantile(distances[0], 0.99))


def test_limits_are_drawn_in_to_keep_out_what_is_no_field() -> None:
    distances, limits = np.linspace(0, 10, 1001)[np.newaxis], np.array([10.0])

    def drawn_in(*shares: float) -> float:
        return fold_checks.factor(distances, limits, np.array(shares))

    assert drawn_in(1.5, np.inf) == drawn_in() == 1, "they are far away"
    assert drawn_in(1.19, 3.0) == pytest.approx(1.19 / fold_checks.MARGIN)
    assert drawn_in(0.5) == pytest.approx(fold_checks.LEAST_ACCEPTED / 100), "no further than the images let"


def test_what_would_be_referred_is_not_near() -> None:
    """Only the label of the picture on the right is sure."""
    rng = np.random.default_rng(0)
    labels, folds = np.arange(200) % 2, np.arange(200) // 40
    rows = Rows((rng.normal(size=(200, 2)) + 4 * labels[:, np.newaxis]).astype(np.float32))
    heads = evaluate.fold_heads(rows, labels, folds, HeadSpec("anova", "naive_bayes", 2))
    checks = FoldChecks.fit(heads, rows, folds, None)
    limits = familiarity.limits(checks.distances(heads, rows.plain, folds))
    between, beside = checks.shares(heads, np.array([[2, 2], [4, 4]], np.float32), limits, threshold=0.99)
    assert between == np.inf and 0 < beside < 1


def test_all_copies_of_an_image_weigh_as_much_as_the_image() -> None:
    shown = np.array([0, 1, 2, 0, 1, 0, 1, 0])
    assert familiarity.row_weights(shown).tolist() == pytest.approx([1, 1, 1, 1 / 3, 1 / 2, 1 / 3, 1 / 2, 1 / 3])
    inputs = np.random.default_rng(0).normal(size=(8, 2))
    repeated = np.repeat(inputs, [6, 6, 6, 2, 3, 2, 3, 2], axis=0)
    weighted = familiarity.fit_inputs(inputs, familiarity.row_weights(shown))
    assert weighted.mean == pytest.approx(repeated.mean(0))
