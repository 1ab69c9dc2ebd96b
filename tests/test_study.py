"""A study on drawn images: what it tells, what it keeps, and that it goes on where it was killed."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_command import PROGRAM, SMALL, Command, run_program
from helpers_graphs import pictures

from edge_all import bundle as bundles
from edge_all.errors import StudyError
from edge_all.export import classifiers
from edge_all.export.dataset import augment
from edge_all.export.features import Rows
from edge_all.export.graph.preprocess import Preprocess
from edge_all.export.head.fit import HeadSpec, Selection
from edge_all.export.recipe import Conditions
from edge_all.export.study import audit, curves, deployed, grid, metrics, picks, settings, table
from edge_all.export.study.metrics import Scores
from edge_all.export.study.report import baselines, plots
from edge_all.export.study.settings import Settings
from edge_all.export.study.table import Cell, Row

pytestmark = pytest.mark.slow

TWO = ("--selector", "anova", "--selector", "pca", "--classifier", "svm", "--classifier", "knn", "--features", 16)


def row(cell: Cell, accuracy: float = 97.5, graph_ms: float | None = None) -> Row:
    """A line of the table; what is not given is made up."""
    scores = Scores(accuracy, accuracy, 0.5, accuracy, accuracy, {"a": 98.0, "b": 97.0}, 0.99, 0.01, (97.0, 98.0))
    return Row(cell, {"penalty": 1.0}, 300, scores, images=48, fit_s=1.5, graph_ms=graph_ms)


@pytest.fixture(scope="module")
def study(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study without INT8."""
    out = tmp_path_factory.mktemp("study") / "s"
    words = ("study", *SMALL, *TWO, "--data", drawn, "--out", out, "--int8", 0)
    done = run_program(*words, cwd=out.parent, timeout=600)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out) and "not a medical device" in done.stderr
    return out


def without_times(folder: Path) -> list[dict[str, str]]:
    """The cells without what they took."""
    return [{k: v for k, v in row.items() if k not in ("fit_s", "graph_ms")} for row in cells(folder)]


def cells(folder: Path) -> list[dict[str, str]]:
    with (folder / table.FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_cell_is_there_with_its_metrics(study: Path) -> None:
    rows = cells(study)
    assert len(rows) == 2 * 2 * 3 == len({tuple(row.values())[:5] for row in rows})
    for row in rows:
        assert 0 <= float(row["accuracy"]) <= 100 and 0 <= float(row["ece"]) <= 1 and 0 <= float(row["auroc"]) <= 1
        assert float(row["graph_ms"]) > 0 and int(row["macs"]) > 0 and row["images"] == "48" and row["features"] == "16"
        folds = [float(row[f"accuracy_fold_{k}"]) for k in range(1, 6)]
        assert float(row["accuracy_fold_mean"]) == pytest.approx(np.mean(folds), abs=0.01)
        assert json.loads(row["setting"]) in classifiers.settings(row["classifier"])
    assert {"recall_Benign", "recall_Pro", "balanced_accuracy", "macro_f1"} <= set(rows[0])


def test_the_report_holds_everything_in_one_file(study: Path) -> None:
    html, markdown = ((study / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert not re.search(r'(src|href)="(?!data:)', html), "the page must need nothing else"
    assert html.count("data:image/png") == markdown.count("](plots/") == 8
    assert "data:image/jpeg" in html, "the surest errors are shown"
    for word in ("not a medical device", "byte for byte", "Colour alone", "scale bar", "gain of 10 %"):
        assert word in html and word in markdown
    for link in re.findall(r"\]\((plots/[^)]+)\)", markdown):
        assert (study / link).read_bytes().startswith(b"\x89PNG")


def test_going_on_changes_nothing_and_can_leave_the_images_out(study: Path, drawn: Path, edge_all: Command) -> None:
    before = (study / table.FILE).read_bytes()
    done = edge_all("study", *SMALL, *TWO, "--data", drawn, "--out", study, "--int8", 0, "--no-images")
    assert done.returncode == 0 and "Grid" not in done.stderr, done.stderr
    assert (study / table.FILE).read_bytes() == before
    assert "data:image/jpeg" not in (study / "report.html").read_text(encoding="utf-8")


def test_a_killed_study_goes_on_and_ends_with_the_same_table(
    study: Path, drawn: Path, tmp_path: Path, edge_all: Command
) -> None:
    out = tmp_path / "killed"
    words = ("study", *SMALL, *TWO, "--data", str(drawn), "--out", str(out), "--int8", "0")
    started = subprocess.Popen([PROGRAM, *map(str, words)], stderr=subprocess.DEVNULL, start_new_session=True)
    limit = time.monotonic() + 120
    while not (out / table.FILE).exists() and time.monotonic() < limit:
        time.sleep(0.02)
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    with (out / table.FILE).open("a", encoding="utf-8") as file:
        file.write("mobilenetv2,features.4,anova,kn")  # a line that the kill cut short
    done = len(table.read(out))
    assert 0 < done <= 12
    finished = edge_all(*words)
    assert finished.returncode == 0, finished.stderr
    assert without_times(study) == without_times(out)


def test_no_cluster_is_there(drawn: Path, edge_all: Command, tmp_path: Path) -> None:
    words = ("study", *SMALL, *TWO, "--data", drawn, "--out", tmp_path / "s", "--address", "127.0.0.1:1")
    done = edge_all(*words)
    wanted = "no Ray cluster answers there" if find_spec("ray") else "clusters take an extra"
    assert done.returncode == 1 and wanted in done.stderr and "--address 127.0.0.1:1" in done.stderr


@pytest.mark.skipif(not find_spec("ray"), reason="the extra cluster is not installed")
def test_a_cluster_ends_with_the_same_table(study: Path, drawn: Path, tmp_path: Path) -> None:
    """Two machines of Ray, simulated by its own cluster_utils; one of them is lost in the middle."""
    from ray.cluster_utils import Cluster

    out = tmp_path / "s"
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        words = ("study", *SMALL, *TWO, "--data", drawn, "--out", out, "--int8", 0, "--address", cluster.address)
        with subprocess.Popen([PROGRAM, *map(str, words)], stderr=subprocess.PIPE, text=True) as started:
            limit = time.monotonic() + 120
            while not (out / table.FILE).exists() and time.monotonic() < limit and started.poll() is None:
                time.sleep(0.02)
            cluster.remove_node(second, allow_graceful=False)
            _, errors = started.communicate(timeout=300)
        assert started.returncode == 0, errors
    finally:
        cluster.shutdown()
    assert without_times(study) == without_times(out)


def test_other_conditions_need_another_folder(study: Path, drawn: Path, edge_all: Command, tmp_path: Path) -> None:
    for words, named in ((("--seed", 1), "seed 0, and 1 was given"), (("--equalize",), "equalize False, and True")):
        given = edge_all("study", *SMALL, *TWO, "--data", drawn, "--out", study, *words)
        assert given.returncode == 1 and named in given.stderr and "another --out" in given.stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    given = edge_all("study", *SMALL, "--data", drawn, "--out", tmp_path / "full")
    assert given.returncode == 1 and "holds something else" in given.stderr
    assert os.listdir(tmp_path / "full") == ["thesis.tex"]


@pytest.mark.parametrize("words", [("--tap", "vgg=last"), ("--weights", "mobilenetv2="), ("--protocol", "slide")])
def test_what_is_no_option(edge_all: Command, drawn: Path, words: tuple[str, ...]) -> None:
    given = edge_all("study", "--data", drawn, *words)
    assert given.returncode == 2 and ("wanted" in given.stderr or "is not one of" in given.stderr)


@pytest.mark.usefixtures("untimed")
def test_the_winner_is_exported(study: Path, edge_all: Command, tmp_path: Path) -> None:
    given = edge_all("export", "--from-study", study, "--target", "cpu", "--recipe", "layerwise-8bit", "--out", "b")
    assert given.returncode == 0 and "pick 1 of" in given.stderr, given.stderr
    record, best = bundles.load(tmp_path / "b").record, table.ranking(table.read(study))[0]
    assert [record[name] for name in ("backbone", "tap", "selector", "classifier", "setting", "augment")] == [
        best.cell.backbone, best.cell.tap, best.cell.selector, best.cell.classifier, best.setting, 0,
    ]  # fmt: skip
    assert record["input"]["height"] == 64 and record["features"] == 16
    for words, named in (
        (("--from-study", study, "--selector", "pca"), "--from-study"),
        (("--from-study", study, "--pick", 5), "give 1 to 4"),
        (("--from-study", tmp_path), "no study is there"),
        (("--pick", 1), "give --from-study DIR too"),
    ):
        given = edge_all("export", *words)
        assert given.returncode in (1, 2) and named in given.stderr


def test_the_ranking_reads_block_and_prefers_the_fast() -> None:
    def timed(name: str, accuracy: float, ms: float, protocol: str = "block") -> Row:
        return row(Cell(name, "last", "anova", "svm", protocol), accuracy, ms)

    rows = [timed("a", 97.0, 5.0), timed("b", 98.0, 9.0), timed("c", 98.0, 1.0), timed("d", 99.9, 1.0, "random")]
    assert [ranked.cell.backbone for ranked in table.ranking(rows)] == ["c", "b", "a"]
    with pytest.raises(StudyError, match="no finished cell"):
        table.ranking([])


def test_no_test_image_helps_to_choose_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tuning sees neither features nor labels of the fold that is tested: it may not change when they do."""
    rng = np.random.default_rng(0)
    labels, folds = np.arange(60) % 2, np.arange(60) // 2 % 5
    plain = rng.normal(size=(60, 8)).astype(np.float32) + labels[:, np.newaxis]
    seen: list[bytes] = []
    tune = grid.tune

    def spy(name: str, selection: Selection, evaluated: np.ndarray, true: np.ndarray, seed: int) -> classifiers.Setting:
        seen.append(evaluated.tobytes() + true.tobytes() + selection.selected.tobytes())
        return tune(name, selection, evaluated, true, seed)

    monkeypatch.setattr(grid, "tune", spy)
    job = grid.Job("x", "last", "anova", "block", ("knn",))
    for k in range(5):
        changed = plain.copy()
        changed[folds == k] = 100
        for features in (plain, changed):
            grid.work(job, Rows(features), folds, grid.Inputs(labels, ("a", "b"), {}, {}, 4, 0))
        before, after = seen[-10:-5], seen[-5:]
        assert before[k] == after[k] and before[(k + 1) % 5] != after[(k + 1) % 5]


def test_tuning_takes_what_labels_best() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2
    features = rng.normal(size=(200, 5)).astype(np.float32)
    features[:, 0] += 1.2 * labels
    selection = HeadSpec("anova", "knn", 5).select(features[:100], labels[:100])
    best = grid.tune("knn", selection, selection.transform(features[100:]), labels[100:], 0)
    heads = {
        setting["neighbours"]: selection.classify(HeadSpec("", "knn", setting=setting))
        for setting in classifiers.settings("knn")
    }
    right = {k: (head.predict_proba(features[100:]).argmax(1) == labels[100:]).mean() for k, head in heads.items()}
    assert right[best["neighbours"]] == max(right.values()) > min(right.values())


def test_metrics_against_the_textbook() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert metrics.auroc(labels, probabilities) == 1.0
    # bins of 0.9, 0.6, 0.8 and 0.7; one of them wrong
    assert metrics.calibration_error(labels, probabilities) == pytest.approx((0.1 + 0.6 + 0.2 + 0.3) / 4)
    scores = metrics.scores(labels, probabilities, np.array([0, 1, 0, 1]), ("a", "b"))
    assert scores.accuracy == 75 and scores.recall["a"] == 50 and scores.accuracy_by_fold[0] == 100
    assert scores.accuracy_fold_std == pytest.approx(35.355, abs=0.001)


def test_a_table_survives_being_written_and_read(tmp_path: Path) -> None:
    first, second = (row(Cell(name, "last", "anova", "svm", "block")) for name in ("a", "b"))
    second = replace(second, macs=7, graph_ms=1.25)
    table.append(tmp_path, [second])
    table.append(tmp_path, [first])
    assert table.read(tmp_path) == [second, first]
    assert table.rewrite(tmp_path, [second, first]) == [first, second] == table.read(tmp_path)
    header, line, _ = (tmp_path / table.FILE).read_text(encoding="utf-8").splitlines()
    assert header.startswith("backbone,tap,selector,classifier,protocol,setting,features,accuracy,")
    assert line.endswith(",0.99,0.01,97.0,98.0,48,1.5,,,,,,"), "what is missing is an empty field"
    (tmp_path / table.FILE).write_text("name,value\na,1\n")
    with pytest.raises(StudyError, match="no table of a study"):
        table.read(tmp_path)


def test_settings_are_checked_before_a_study_goes_on(tmp_path: Path) -> None:
    asked = Settings(tmp_path / "s", Conditions(data=tmp_path), backbones=("vgg19",))
    settings.begin(asked, "data", {"vgg19": "w"})
    settings.begin(asked, "data", {"densenet121": "x"})  # more backbones later
    stored = settings.read(asked.out)
    assert set(stored["weights"]) == {"vgg19", "densenet121"} and stored["data"] == str(tmp_path)
    for fingerprint, digest, named in (("other", "w", "fingerprint"), ("data", "v", "other weights of vgg19")):
        with pytest.raises(StudyError, match=named):
            settings.begin(asked, fingerprint, {"vgg19": digest})


def test_the_smallest_class_alone_is_augmented() -> None:
    labels = np.array([0] * 10 + [1] * 29 + [2] * 20)
    count, copied = augment.plan(3, True, labels)
    assert count == 2 and copied is not None and (copied == (labels == 0)).all()
    rows = Rows(np.arange(59.0)[:, np.newaxis], (np.arange(59.0)[:, np.newaxis] + 100,) * count, copied)
    features, shown = rows.training(labels != 2)
    assert len(features) == len(shown) == 10 + 29 + 20 and (features[39:59, 0] - 100 == shown[39:59]).all()
    assert augment.plan(3, False, labels) == (3, None)


def test_the_corner_is_grey_in_the_graph_and_nothing_else_is() -> None:
    import onnxruntime as ort
    from onnx import helper

    from edge_all.export import backbones

    backbone, images = backbones.load("mobilenetv2"), pictures(2, (224, 224))
    given = []
    for hidden in (False, True):
        nodes = Preprocess(mask_corner=hidden).graph(backbone, (224, 224))
        model = helper.make_model(nodes, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        given.append(session.run(None, {"image": images})[0])
    apart = np.abs(given[0] - given[1]).max((0, 1)) > 0
    assert apart[190:, 190:].mean() > 0.9 and not apart[:190].any() and not apart[:, :190].any()
    grey = (128 / 255 - np.array(backbone.mean)) / np.array(backbone.std)
    np.testing.assert_allclose(given[1][:, :, 200, 200], np.tile(grey, (2, 1)), rtol=1e-5)


def test_what_ten_percent_of_a_channel_cost() -> None:
    points: list[curves.Point] = [
        {"level": level, "plain": 98 - lost, "augmented": 98 - lost / 2} for level, lost in ((0.9, 6), (1, 0), (1.1, 4))
    ]
    losses = curves.gain_losses({f"{name} gain": points for name in curves.GAINS})
    assert losses["plain"]["mean"] == 5 and losses["plain"]["worst"] == 6 and losses["augmented"]["mean"] == 2.5


def test_the_gap_is_of_the_same_pipelines() -> None:
    def under(protocol: str, selector: str, accuracy: float) -> Row:
        return row(Cell("a", "last", selector, "svm", protocol), accuracy)

    rows = [under("random", "anova", 99), under("block", "anova", 97)]
    rows += [under("random", "pca", 90), under("block", "lasso", 1)]
    assert audit.gap(rows) == {"block": 2}


def test_the_sentences_of_the_audit_follow_the_figures() -> None:
    by_protocol = {"random": 90.0, "block": 80.0}
    figures: audit.Audit = {
        "whose": {"pipeline": "x", "protocols": ["block", "random"]},
        "duplicates": {"images": 48, "identical": 0, "groups": 0, "in_groups": 0, "leaks": {"random": 0, "block": 0}},
        "colour": {protocol: {"svm": accuracy} for protocol, accuracy in by_protocol.items()},
        "corner": {"random": 30.0, "block": 25.0},
        "largest_class": 25.0,
        "mask": {"before": {"block": 97.0}, "after": {"block": 96.0}},
        "gap": {"block": 2.0, "grouped": -0.5},
    }
    best = row(Cell("a", "last", "anova", "svm", "block"), 97.0)
    duplicates, colour, corner, block, grouped = baselines.sentences(figures, best)
    assert "Remove the duplicates" not in duplicates and "Only the 17.0 points" in colour
    assert "tells nothing" in corner and "Use --mask-corner" in corner
    assert "2.0 points" in block and "Quote the accuracy under block" in block and "lose nothing" in grouped
    assert "no better" in baselines.colour_sentence(figures, row(best.cell, 79.0))


def test_the_plane_names_int8_only_where_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    legends: list[list[str]] = []

    @contextmanager
    def figure(*arguments: Any) -> Iterator[Any]:
        with drawn_figure(*arguments) as (drawn, axes):
            yield drawn, axes
            legends.append([text.get_text() for text in drawn.legends[0].get_texts()])

    drawn_figure = plots.figure
    monkeypatch.setattr(plots, "figure", figure)
    rows = [row(Cell(name, "last", "anova", "svm", "block"), 97.0, ms) for name, ms in (("a", 1.0), ("b", 2.0))]
    score: Any = {"int8": {"targets": {"openvino": {"accuracy": 96.0}}}}
    times: deployed.GraphTimes = {"fp32": 1.0, "int8": 0.5, "passed": True}
    exported: Any = {"pipeline": "a-last-anova-svm-block", "metrics": {"block": score}, "graph_ms": {"openvino": times}}
    for shown in ([], [exported]):
        plots.plane(tmp_path / "plots" / "plane.png", rows, shown)
    without, with_int8 = legends
    assert set(with_int8) - set(without) == {"INT8, time of the backbone"} and {"a", "b", "svm"} < set(without)


def test_a_pick_knows_how_it_was_made(study: Path) -> None:
    pick = picks.pick(study, 2)
    recipe = pick.recipe()
    assert recipe.tap == "features.4" and recipe.weights == "random" and recipe.setting == pick.row.setting
    assert recipe.conditions.augment == 0 and recipe.conditions.size == (64, 64) and recipe.conditions.features == 16
    assert pick.sentence().startswith(f"pick 2 of {study}: mobilenetv2 at features.4")
