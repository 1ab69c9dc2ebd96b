"""Runs of fields: how the check is fitted, what the graph gives, and what is said of them."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_command import Command
from helpers_drift import BRIGHTNESS, DRIFT, RUN, graph, picture, write_drift_bundle
from helpers_graphs import ENGINES, Engine

from edge_all import bundle as bundles
from edge_all import bundle_checks, graph_check, load
from edge_all.bundle import Bundle
from edge_all.drift import Runs
from edge_all.errors import BundleError
from edge_all.export.dataset.changes import Change
from edge_all.export.head import drift, familiarity
from edge_all.export.head.drift import Fields
from edge_all.export.head.fit import HeadSpec, to_onnx
from edge_all.journal import Journal


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_drift_bundle(tmp_path / "bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images as they should be, and then ten that are darker."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.png").write_bytes(picture(number, BRIGHTNESS if number < 10 else BRIGHTNESS - 30))
    return folder


def _fields(seed: int, slides: int = 48, per_slide: int = 25, between: float = 0.3) -> Fields:
    """Fields of slides that differ by themselves, with this deviation: neighbours are alike."""
    rng, features = np.random.default_rng(seed), 12
    labels = np.repeat(np.arange(3), slides * per_slide // 3)
    slide = np.repeat(rng.normal(0, between, (slides, features)), per_slide, axis=0)
    inputs = 2 * np.eye(3, features)[labels] + slide + rng.normal(0, 1, (len(labels), features))
    folds = np.concatenate([np.repeat(np.arange(4), len(labels) // 12)] * 3)
    return Fields(inputs, np.eye(3)[labels], labels, folds)


def _shift(size: float, features: int = 12) -> np.ndarray:
    """What a change adds to all fields."""
    return size * np.random.default_rng(42).normal(size=features)


def _solved(fields: Fields) -> drift.Drift:
    chosen = np.arange(0, len(fields.labels), 3)
    inputs, answers = fields.inputs[chosen], fields.answers[chosen]
    found = drift.solve(fields, chosen, {"a": (inputs + _shift(0.4), answers), "b": (inputs - _shift(0.4), answers)})
    assert found
    return found


def _means(found: drift.Drift, fields: Fields, inputs: np.ndarray) -> np.ndarray:
    """The scores ``[R, J]`` of all runs."""
    scores = found.scores(inputs, fields.answers)
    return np.stack([scores[run].mean(0) for fold in range(4) for run in fields.runs(fold)])


def test_a_change_is_told_from_other_slides_than_those_that_the_limits_were_set_on() -> None:
    found, others = _solved(_fields(0)), _fields(1)
    assert (_means(found, others, others.inputs).max(1) > 1).mean() <= 0.02
    for column, shift in enumerate((_shift(1.2), -_shift(1.2))):
        means = _means(found, others, others.inputs + shift)
        assert (means[:, column] > 1).mean() >= 0.98
        assert (means.argmax(1) == column).all()


def test_slides_that_differ_are_no_drift() -> None:
    """Limits from fields drawn anywhere would take a new slide for a change: neighbours are what they are set on."""
    fields, others = _fields(0, between=0.9), _fields(1, between=0.9)
    order = np.random.default_rng(0).permutation(len(fields.labels))
    mixed = replace(fields, inputs=fields.inputs[order], answers=fields.answers[order], labels=fields.labels[order])
    false = [(_means(_solved(part), others, others.inputs).max(1) > 1).mean() for part in (fields, mixed)]
    assert false[0] <= 0.02 < false[1]


def test_a_run_may_hold_any_classes() -> None:
    found, others = _solved(_fields(0)), _fields(1)
    scores = found.scores(others.inputs, others.answers)
    rng = np.random.default_rng(3)
    mixed = [scores[rng.choice(len(scores), drift.RUN, replace=False)].mean(0).max() for _ in range(200)]
    assert max(mixed) < 1


def test_few_neighbours_are_not_judged() -> None:
    assert drift.solve(_fields(0, slides=6, per_slide=10), np.arange(6), {}) is None


@pytest.mark.engine
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("selector", ["anova", "pca"])
def test_the_graph_gives_the_scores(selector: str, engine: Engine) -> None:
    fields = _fields(0)
    rows = fields.inputs.astype(np.float32)
    head = HeadSpec(selector=selector, classifier="svm", count=8).fit(rows, fields.labels)
    inputs, answers = familiarity.classifier_input(head, rows), head.predict_proba(rows)
    read = Fields(inputs, answers, fields.labels, fields.folds)
    changed = rows + _shift(0.4).astype(np.float32)
    pair = familiarity.classifier_input(head, changed), head.predict_proba(changed)
    found = drift.solve(read, np.arange(len(rows)), {"a": pair, "b": pair})
    assert found
    given = engine(drift.with_output(to_onnx(head), found), features=rows)
    np.testing.assert_allclose(given["deviation"], found.scores(inputs, answers), atol=5e-3)
    assert np.abs(given["probabilities"] - answers).max() <= 1e-3


def test_changes_of_light_and_stain() -> None:
    pixels = np.random.default_rng(0).integers(20, 230, (8, 8, 3), dtype=np.uint8)
    darker, lighter = Change("", gamma=1.5)(pixels, ""), Change("", gamma=0.7)(pixels, "")
    assert (darker <= pixels).all() and (lighter >= pixels).all() and (darker < pixels).mean() > 0.9
    assert (Change("", gamma=1.5)(np.full((2, 2, 3), 255, np.uint8), "") == 255).all()
    purple = np.full((2, 2, 3), (120, 80, 160), np.uint8)
    assert (
        Change("", stain=(1.4, 1.0))(purple, "").sum() < purple.sum() < Change("", stain=(0.6, 1.0))(purple, "").sum()
    )
    assert (Change("", stain=(1.4, 0.6))(np.full((2, 2, 3), 255, np.uint8), "") == 255).all()


def test_a_change_is_said_once_and_so_is_its_end(bundle: Bundle) -> None:
    told: list[str] = []
    runs = Runs(told.append)
    scores = [runs.add("slides", bundle, (level, -level)) for level in [0.0] * 4 + [2.0] * 6 + [0.95] * 6 + [0.0] * 4]
    assert scores[:3] == [None] * 3 and scores[3] == 0 and scores[7] == 2
    assert [line.startswith("slides: the last 4 fields look ") for line in told] == [True, True]
    assert "unlike the training images (most like: darker): stain, lamp or focus changed?" in told[0]
    assert told[1].endswith("like the training images again")
    assert runs.states()[0].over is False
    assert scores[15] == pytest.approx(0.95), "between the limits nothing is said"


def test_sources_and_bundles_are_kept_apart(bundle: Bundle, tmp_path: Path) -> None:
    other = write_drift_bundle(tmp_path / "other", {**DRIFT, "runs": 31})
    plain = write_drift_bundle(tmp_path / "plain", None)
    runs = Runs()
    assert [runs.add(source, bundle, (3.0, -3.0)) for source in "abababab"] == [None] * 6 + [3.0, 3.0]
    assert [state.source for state in runs.states()] == ["a", "b"] and runs.states()[0].over
    assert runs.add("a", other, (0.0, 0.0)) is None and [state.source for state in runs.states()] == ["b"]
    assert [runs.add("c", plain, (3.0, -3.0)) for _ in range(RUN + 1)] == [None] * (RUN + 1)
    for wrong in ((), (1.0,), (float("nan"), 0.0)):
        assert runs.add("b", bundle, wrong) is None
    assert runs.add("b", bundle, (3.0, -3.0)) == 3.0


def test_many_threads_lose_nothing(bundle: Bundle) -> None:
    runs = Runs()
    scores: list[float | None] = []

    def work() -> None:
        scores.extend(runs.add("", bundle, (0.5, -0.5)) for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores.count(None) == RUN - 1 and {score for score in scores if score} == {0.5}


def test_the_built_in_bundle_judges_runs(edge_all: Command) -> None:
    classifier = load(bundles.BUILTIN)
    assert classifier.bundle.drift and classifier.bundle.drift["run"] == 20
    (height, width), rng = classifier.bundle.input_size, np.random.default_rng(0)
    noise = classifier.classify_pixels(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert len(noise.deviation) == len(classifier.bundle.drift["changes"])
    assert max(map(abs, noise.deviation)) <= 4


def test_classify_says_it_at_the_end(edge_all: Command, bundle: Bundle, folder: Path) -> None:
    done = edge_all("classify", folder, "--bundle", bundle.path)
    assert "8 of 17 runs of 4 neighbouring fields look unlike the training images (most like: darker)" in done.stderr
    assert done.returncode == 0
    for file in sorted(folder.iterdir())[10:]:
        file.unlink()
    assert "neighbouring" not in edge_all("classify", folder, "--bundle", bundle.path).stderr


def test_watch_says_it_and_doctor_reads_it_in_the_journal(edge_all: Command, bundle: Bundle, folder: Path) -> None:
    words = ("watch", folder, "--once", "--bundle", bundle.path, "--journal", "j.sqlite")
    done = edge_all(*words)
    assert done.stderr.count("look unlike the training images (most like: darker)") == 1
    with Journal.open(folder.parent / "j.sqlite") as journal:
        entries = journal.entries()
        assert [entry.drift for entry in entries[:3]] == [None] * 3
        assert entries[3].drift == pytest.approx(0, abs=0.01) and entries[19].drift == pytest.approx(1.5, abs=0.01)
    doctor = ("doctor", "--bundle", bundle.path, "--target", "cpu", "--journal", "j.sqlite")
    shown = edge_all(*doctor)
    assert "The last 4 fields, up to " in shown.stdout and "stain, lamp or focus changed? (1.50 of" in shown.stdout
    assert json.loads(edge_all(*doctor, "--json").stdout)["drift"]["score"] == pytest.approx(1.5, abs=0.01)
    for number in range(4):
        (folder / f"z{number}.png").write_bytes(picture(200 + number))
    assert edge_all(*words).stderr.count("training images") == 0, "a run begins anew with the program"
    assert "look familiar" in edge_all(*doctor).stdout
    missing = edge_all(*doctor[:-1], "none.sqlite")
    assert "no journal yet" in missing.stderr and missing.returncode == 0


@pytest.mark.parametrize(
    ("drift", "said"),
    [
        ({**DRIFT, "run": 1}, "drift.run is 1; wanted 2 to 1000"),
        ({**DRIFT, "changes": ["darker"]}, "drift.changes"),
        ({**DRIFT, "margin": "2"}, "drift.margin"),
        ({**DRIFT, "changes": ["a", "b", "c"]}, "its output 'deviation"),
        ([], "wanted an object"),
    ],
)
def test_a_wrong_record_is_refused(drift: object, said: str, bundle: Bundle) -> None:
    place = bundle.path / "bundle.json"
    record = json.loads(place.read_text()) | {"drift": drift}
    record["digest"] = bundle_checks.digest(record)
    place.write_text(json.dumps(record))
    with pytest.raises(BundleError) as caught:
        bundles.load(bundle.path)
    assert said in str(caught.value)


def test_a_graph_may_lack_the_output(bundle: Bundle) -> None:
    """A refitted head's does; and a reader that knows no drift takes the output for nothing."""
    wanted = graph_check.Wanted(bundle.input_size, 3, 2)
    graph_check.check(graph(), wanted)
    graph_check.check(graph(columns=5), replace(wanted, changes=0))
    with pytest.raises(graph_check.GraphError, match="its output 'deviation"):
        graph_check.check(graph(columns=5), wanted)
