"""The export end to end on drawn images with random weights, and what it leaves behind when it fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from helpers_command import PROGRAM, SMALL, Command, run_program
from helpers_graphs import check_standard
from helpers_sign import Keys
from PIL import Image

from edge_all import bundle as bundles
from edge_all import load, training_features
from edge_all.cli import scores
from edge_all.errors import DataError, EdgeAllError
from edge_all.export import backbones, features
from edge_all.export.assemble.fuse import fuse
from edge_all.export.dataset import folds, groups, read
from edge_all.export.features import Rows
from edge_all.export.graph import weights
from edge_all.export.graph.build import backbone_graph
from edge_all.export.head import drift, evaluate
from edge_all.export.head.fit import HeadSpec, to_onnx
from edge_all.export.quantize import calibration, gate, search
from edge_all.record import Score

pytestmark = pytest.mark.slow

FEW = (*SMALL, "--augment", 0)
"""One image in place of four to learn from."""


@pytest.fixture(scope="module")
def exported(tinted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bundles.Bundle, dict[str, object]]:
    """One export by the installed command, and its JSON."""
    out = tmp_path_factory.mktemp("exported") / "bundle"
    words = ("export", *SMALL, "--augment", 1, "--data", tinted, "--out", out, "--json")
    done = run_program(*words, cwd=out.parent, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "untrained" in done.stderr, "random weights must be said aloud"
    assert "not stated" in (out / "MODEL_CARD.md").read_text("utf-8")
    assert "not judged for drift: that takes 20 runs of 20 neighbouring images" in done.stderr
    return bundles.load(out), json.loads(done.stdout.splitlines()[-1])


def test_json_has_the_promised_keys(exported: tuple[bundles.Bundle, dict[str, object]]) -> None:
    bundle, summary = exported
    wanted = {"bundle", "backbone", "tap", "selector", "classifier", "features", "classes", "metrics", "gate"}
    assert wanted <= set(summary) and summary["bundle"] == str(bundle.path) and summary["positive"] is None
    assert summary["tap"] == "features.4" and summary["classes"] == ["Benign", "Early", "Pre", "Pro"]
    for protocol in ("random", "grouped", "block"):
        for precision in ("fp32", "int8"):
            score = summary["metrics"][protocol][precision]  # type: ignore[index]
            low, high = score["intervals"]["accuracy"]
            assert 0 <= low <= score["accuracy"] <= high <= 100 and low < high
            assert score["intervals"]["over"] == "near-duplicate groups" and "sensitivity" not in score
            assert score["intervals"]["count"] == bundle.record["dataset"]["groups"]


def test_bundle_is_whole_and_standard(exported: tuple[bundles.Bundle, dict[str, object]]) -> None:
    bundle, _ = exported
    record = bundle.record
    assert record["weights"]["pretrained"] is False and "random (seed 0)" in record["weights"]["source"]
    assert record["input"] == record["input"] | {"height": 64, "width": 64, "equalize": False}
    for name in record["files"]:
        if name.endswith(".onnx"):
            model = onnx.load_from_string(bundle.read(name))
            check_standard(model)
            head = [node for node in model.graph.node if node.name.startswith("head/")]
            assert head and not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in head}
    card = bundle.read("MODEL_CARD.md").decode()
    assert "not a medical device" in card and "random (seed 0)" in card and "block" in card
    for verified in record["verified"].values():
        assert verified["agreement"] >= 95


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_every_precision_answers(exported: tuple[bundles.Bundle, dict[str, object]], tinted: Path, target: str) -> None:
    bundle, _ = exported
    answers = {}
    for precision in bundle.precisions(target):
        classifier = load(bundle.path, target=target, precision=precision)
        answers[precision] = [classifier.classify(path).top for path in sorted(tinted.glob("*/*"))[::4]]
    same = np.mean([a == b for a, b in zip(answers["fp32"], answers.get("int8", answers["fp32"]), strict=True)])
    assert same >= 0.9


def test_bench_of_an_export(
    exported: tuple[bundles.Bundle, dict[str, object]], edge_all: Command, tinted: Path
) -> None:
    bundle, _ = exported
    done = edge_all("bench", "--quick", "--bundle", bundle.path, "--data", tinted, "--target", "cpu")
    assert done.returncode == 0 and "WARNING" in done.stderr and "Probe:" in done.stderr


@pytest.mark.usefixtures("untimed")
def test_hold_out_drawn_probe_zip_and_equalize(edge_all: Command, tinted: Path, tmp_path: Path) -> None:
    out = tmp_path / "held.zip"
    keys = Keys(tmp_path, "maker") if find_spec("minisign") else None
    words: tuple[object, ...] = ("--hold-out", "--drawn-probe", "--equalize", "--classifier", "naive_bayes")
    words += ("--target", "cpu", "--positive", "Early", "--positive", "Pro", "--positive", "Pre", "--sensitivity", 99)
    carry = ("--carry", "features.7", "--no-adapt")
    signing = ("--sign", keys.secret) if keys else ()
    done = edge_all("export", *FEW, "--data", tinted, "--out", out, *words, *carry, *signing)
    assert done.returncode == 0, done.stderr
    bundle = bundles.load(out, keys.public if keys else None)
    record, held_out = bundle.record, bundle.record["held_out"]
    assert held_out and held_out["images"] == 8 and held_out["fitted"] <= 40
    assert record["input"]["equalize"] and record["dataset"]["images"] == 48 and set(record["models"]) == {"cpu"}
    assert len(bundle.training_images()) == 48
    carried = record["carried"]
    assert (carried["tap"], carried["features"]) == ("features.7", 64) and carried["file"] in record["files"]
    assert training_features.FILE not in record["files"]
    card = bundle.read("MODEL_CARD.md").decode()
    assert f"made in the same way from {held_out['fitted']} images. This bundle is fitted on all 48" in card
    for figures in held_out["scores"].values():
        assert 0 <= figures["wrong_ok"] <= figures["ok"] <= figures["familiar"] <= 100
    assert edge_all("classify", tinted / "Pro", "--bundle", out, "--json").returncode == 0
    _check_sensitivity(bundles.load(out, keys.public if keys else None), done.stdout, done.stderr)


def _check_sensitivity(bundle: bundles.Bundle, stdout: str, stderr: str) -> None:
    """Sensitivity and intervals are in the record, on the card, and in tables that a narrow terminal shows whole."""
    record, card = bundle.record, bundle.read("MODEL_CARD.md").decode()
    assert record["positive"] == ["Early", "Pre", "Pro"] and record["held_out"]
    for score in (record["metrics"]["block"]["int8"], *record["held_out"]["scores"].values()):
        for name in ("sensitivity", "specificity"):
            low, high = score["intervals"][name]
            assert low <= score[name] <= high, name
    caught = record["referral"]["caught"]
    assert caught["reached"] >= caught["wanted"] == 99 and caught["interval"][1] == 100
    assert bundle.least_probability == record["referral"]["threshold"]
    assert "--sensitivity 99: images under" in stderr and "Early, Pre, Pro against the other classes" in stderr
    assert "set for a sensitivity of 99 %" in card and "Positive: Early, Pre, Pro." in card
    assert "| 95 % interval |" in card and "- `block`, FP32: sensitivity" in card
    table = stdout.splitlines()[:-1]
    assert all(len(line) <= 80 for line in table) and any(line.startswith("held out") for line in table)
    assert "sensitivity %" in stdout and "95 %" in table[0]


@pytest.mark.usefixtures("untimed")
def test_what_was_measured_ships_where_it_is_asked_for(edge_all: Command, tinted: Path, tmp_path: Path) -> None:
    out = tmp_path / "measured"
    words = ("--hold-out", "--no-refit", "--classifier", "naive_bayes", "--target", "cpu")
    done = edge_all("export", *FEW, "--data", tinted, "--out", out, *words)
    assert done.returncode == 0, done.stderr
    bundle = bundles.load(out)
    held_out, fitted = bundle.record["held_out"], bundle.record["dataset"]["images"]
    assert held_out and held_out["fitted"] == fitted == len(bundle.training_images()) <= 40
    assert "This very bundle." in bundle.read("MODEL_CARD.md").decode()
    classifier = load(out, precision="fp32")
    last = [path for folder in sorted(tinted.iterdir()) for path in sorted(folder.iterdir())[-2:]]
    answers = [classifier.classify(path) for path in last]
    right = [answer.top == path.parent.name for answer, path in zip(answers, last, strict=True)]
    ok = [answer.status == "ok" for answer in answers]
    figures = held_out["scores"]["cpu.fp32"]
    assert figures["accuracy"] == pytest.approx(100 * np.mean(right)) and figures["ok"] == pytest.approx(
        100 * np.mean(ok)
    )


def test_no_refit_alone_is_a_usage_error(edge_all: Command, tinted: Path) -> None:
    done = edge_all("export", *FEW, "--data", tinted, "--no-refit")
    assert done.returncode == 2 and "give --hold-out too" in done.stderr


@pytest.mark.usefixtures("untimed")
def test_runs_of_fields_are_judged_where_there_are_enough(
    edge_all: Command, tinted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RUN": 2, "STRIDE": 1, "LEAST_RUNS": 8}.items():
        monkeypatch.setattr(drift, name, value)
    done = edge_all("export", *FEW, "--data", tinted, "--target", "cpu", "--cell", 15, "--out", "judged")
    assert done.returncode == 0 and "not judged" not in done.stderr
    bundle = bundles.load(tmp_path / "judged")
    assert bundle.um_per_px == 0.5 and "0.5 µm" in bundle.read("MODEL_CARD.md").decode()
    assert bundle.drift and bundle.drift["run"] == 2 and len(bundle.drift["changes"]) == len(drift.CHANGES)
    for precision in bundle.precisions("cpu"):
        classifier = load(bundle.path, precision=precision)
        image = np.zeros((*bundle.input_size, 3), np.uint8)
        assert len(classifier.classify_pixels(image).deviation) == len(drift.CHANGES)


@pytest.mark.usefixtures("untimed")
def test_strict_exits_3_where_the_gate_refuses(
    edge_all: Command,
    tinted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object) -> dict[str, object]:
        lost, allowed = {"recall": 9.0}, {"recall": 1.5}
        return {"passed": False, "protocol": "block", "lost": lost, "allowed": allowed, "worst_class": "Early"}

    monkeypatch.setattr(gate, "judge", never)
    monkeypatch.setattr(search, "_with_float_layers", lambda *_: None)
    words = (*FEW, "--data", tinted, "--out", tmp_path / "b", "--target", "cpu", "--scheme", "layerwise-8bit")
    done = edge_all("export", *words, "--strict", "--json")
    assert done.returncode == 3 and "the gate refused INT8 for cpu" in done.stderr and "FP32 ships" in done.stderr
    record = bundles.load(tmp_path / "b").record
    assert record["models"] == {"cpu": {"fp32": "model.fp32.onnx"}} and not record["gate"]["passed"]
    assert {t["scheme"] for t in record["gate"]["targets"]["cpu"]["tried"]} == {"layerwise-8bit"}
    card = bundles.load(tmp_path / "b").read("MODEL_CARD.md").decode()
    assert "all refused" in card and "INT8, cpu (refused by the gate: FP32 ships)" in card
    scores.show(record)
    assert "int8 cpu, refused" in capsys.readouterr().out


REFUSED = {
    "no such folder": (["--data", "nowhere"], "nowhere"),
    "no such weights": (["--weights", "nothing.pth"], "nothing.pth"),
    "no such tap": (["--tap", "features.99"], "features.99"),
    "too many features": (["--features", "5000"], "--features 5000"),
    "no such scheme": (["--scheme", "int4"], "--scheme int4"),
}


def test_two_scales_are_refused(edge_all: Command) -> None:
    done = edge_all("export", "--backbone", "mobilenetv2", "--scale", 0.5, "--cell", 15)
    assert done.returncode == 2 and "--scale and --cell say the same thing" in done.stderr


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_nothing_left(name: str, edge_all: Command, drawn: Path, tmp_path: Path) -> None:
    words, said = REFUSED[name]
    given = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {"--data": str(drawn), "--out": str(tmp_path / "never")}
    given |= dict([words])
    done = edge_all("export", *(word for pair in given.items() for word in pair))
    assert done.returncode == 1 and said in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("edge-all:")]) <= 2
    assert not (tmp_path / "never").exists() and not list(tmp_path.glob(".never*"))


def test_a_corrupt_image_stops_before_anything_is_written(edge_all: Command, drawn: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn, data)
    victim = sorted((data / "Pre").iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:500])
    done = edge_all("export", *SMALL, "--data", data, "--out", tmp_path / "never")
    assert done.returncode == 1 and victim.name in done.stderr and not (tmp_path / "never").exists()


def test_killed_in_the_middle_leaves_no_bundle(drawn: Path, tmp_path: Path) -> None:
    command = [PROGRAM, "export", *SMALL, "--data", str(drawn)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as child:
        assert child.stderr
        for line in child.stderr:
            if line.startswith("Extracting"):
                break
        time.sleep(0.5)
        child.kill()
    assert bundles.newest(tmp_path / "models") is None


def test_unreachable_hub_names_three_ways_out(
    edge_all: Command, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that refuses every connection stands for a machine without a network."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("TORCH_HOME", "KAGGLEHUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    for words, wanted in (
        (("--data", drawn), ("--weights FILE", "--backbone efficientnet_lite0", "--weights random")),
        (("--weights", "random"), ("--data", "edge-all demo")),
    ):
        done = edge_all("export", "--backbone", "vgg19", *words)
        said = [line for line in done.stderr.splitlines() if line.startswith("edge-all:")]
        assert done.returncode == 1 and len(said) == 1 and all(part in said[0] for part in wanted), done.stderr


def test_fused_graph_is_its_parts(drawn: Path) -> None:
    data = read(drawn)
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph(backbone, weights.load(backbone, "random"), tap_name="features.4", input_size=(64, 64))
    rows = features.extract(graph, data, (64, 64))
    head = HeadSpec(selector="pca", classifier="svm", count=10).fit(rows, data.labels)
    fused = fuse(graph, to_onnx(head), name="x")
    from edge_all.targets import EngineOptions, open_engine

    images = np.stack(list(features.decoded(data.paths, (64, 64))))
    for target in ("cpu", "openvino"):
        given = open_engine(fused.SerializeToString(), EngineOptions(target)).run(images).probabilities
        assert np.abs(given - head.predict_proba(rows)).max() <= 1e-3
    other = HeadSpec(selector="anova", classifier="svm", count=3).fit(rows[:, :5], data.labels)
    with pytest.raises(ValueError, match="the backbone gives 32 features and the head takes 5"):
        fuse(graph, to_onnx(other), name="x")


def test_features_are_cached_by_content(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    data = read(drawn)
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph(backbone, weights.load(backbone, "random"), tap_name="features.4", input_size=(64, 64))
    calls: list[int] = []
    extract = partial(features.extract, graph, data, (64, 64))
    first = extract(progress=lambda done, total: calls.append(done))
    assert calls[-1] == len(data)
    np.testing.assert_array_equal(extract(progress=lambda done, total: calls.append(-1)), first)
    assert -1 not in calls
    (entry,) = (tmp_path / "cache" / "features").iterdir()
    entry.write_bytes(b"damaged")
    np.testing.assert_allclose(extract(), first)


def test_no_image_is_evaluated_by_a_graph_that_was_calibrated_on_it(drawn: Path) -> None:
    data = read(drawn)
    block, near = folds(data, "block"), groups(data)
    halves = calibration.halves(block, near)
    shipped, other = set(near[halves.shipped]), set(near[halves.other])
    assert len(halves.shipped) and len(halves.other) and not shipped & other
    assert not halves.evaluated_by_shipped[halves.shipped].any() and halves.evaluated_by_shipped[halves.other].all()
    assert not set(block[halves.shipped]) & set(block[halves.evaluated_by_shipped])


def test_scaling_and_selection_see_training_folds_only() -> None:
    """Random labels and a thousand features: any leak of the test fold into the selection scores far above chance."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(200, 1000)).astype(np.float32), rng.integers(0, 4, 200)
    split = np.arange(200) % 5
    spec = HeadSpec(selector="anova", classifier="naive_bayes", count=20)
    heads = evaluate.fold_heads(Rows(rows), labels, split, spec)
    score = evaluate.score(labels, evaluate.answer(heads, rows, split), list("abcd"))
    assert score["accuracy"] < 40
    leaked = spec.fit(rows, labels)
    assert evaluate.score(labels, leaked.predict_proba(rows), list("abcd"))["accuracy"] > 45


def _scores(accuracies: list[float], agreement: float) -> Score:
    named = dict(zip("abcd", accuracies, strict=True))
    scores = {"balanced_accuracy": float(np.mean(accuracies)), "recall": named, "agreement_fp32": agreement}
    return cast(Score, scores)


@pytest.mark.parametrize(
    ("int8", "agreement", "passed"),
    [
        ([95.0, 95.0, 95.0, 95.0], 100.0, True),
        ([95.0, 95.0, 95.0, 94.0], 99.2, True),
        ([94.0, 94.5, 94.5, 94.5], 99.5, False),
        ([97.0, 95.0, 95.0, 93.0], 99.5, False),
        ([95.0, 95.0, 95.0, 95.0], 98.9, False),
    ],
)
def test_gate(int8: list[float], agreement: float, passed: bool) -> None:
    counts = dict.fromkeys("abcd", 1000)
    verdict = gate.judge(_scores([95.0] * 4, 100.0), _scores(int8, agreement), counts)
    assert verdict["passed"] is passed
    assert set(verdict["lost"]) == set(verdict["allowed"])


def test_gate_allows_two_images_on_a_small_set() -> None:
    counts = dict.fromkeys("abcd", 10)
    fp32, two_wrong = _scores([100.0] * 4, 100.0), _scores([100.0, 100.0, 90.0, 90.0], 95.0)
    assert gate.judge(fp32, two_wrong, counts)["passed"]
    assert not gate.judge(fp32, _scores([100.0, 80.0, 90.0, 90.0], 90.0), counts)["passed"]


def test_bad_data_sets_are_data_errors(tmp_path: Path) -> None:
    (tmp_path / "Benign").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "Benign" / "1.png")
    with pytest.raises(DataError):
        read(tmp_path)
    assert issubclass(DataError, EdgeAllError)
