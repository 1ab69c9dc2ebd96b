"""An export and a study of images that are no leukaemia, with splits of their own and known patients."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers_command import SMALL, Command

from edge_all import bundle as bundles
from edge_all import protocols
from edge_all.bundle import Bundle

pytestmark = pytest.mark.slow

FEW = (*SMALL, "--augment", 0, "--target", "cpu")

KINDS = {"Benign": "basophil", "Early": "eosinophil", "Pre": "monocyte", "Pro": "platelet"}

ASSUMED = re.compile(r"leuk|smear|taleqani|aria et al|scale bar|haemat(?!oxylin)", re.IGNORECASE)
"""What is true of the public set alone."""

PATIENT = r"_0(\d\d)\.jpg"


@pytest.fixture(scope="module")
def cells(tinted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other kinds of cells in the splits train and test, one image of every kind for each of twelve patients."""
    root = tmp_path_factory.mktemp("cells")
    for file in tinted.glob("*/*.jpg"):
        number = file.stem.partition("-")[2]
        folder = root / ("train" if int(number) <= 9 else "test") / KINDS[file.parent.name]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"cell_{number}.jpg")
    return root


@pytest.fixture(scope="module")
def said(cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str, str]:
    """The bundle, and what its export printed on stdout and stderr."""
    from helpers_command import run_here

    from edge_all.export.graph import timing

    out = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "times", lambda target, graphs: [2.0] + [1.0] * (len(graphs) - 1))
        words = ("export", *FEW, "--data", cells, "--groups", PATIENT, "--out", "b")
        done = run_here(*words, cwd=out)
    assert done.returncode == 0, done.stderr
    return bundles.load(out / "b"), done.stdout, done.stderr


def test_everything_goes_by_the_patient(said: tuple[Bundle, str, str]) -> None:
    bundle, stdout, stderr = said
    record, given = bundle.record, protocols.GIVEN_GROUPS
    assert list(record["metrics"]) == ["random", "grouped", "block", given]
    assert record["dataset"]["given_groups"] == 9 and record["dataset"]["near_duplicates_across_folds"][given] == 0
    parts = (record["robustness"], record["familiarity"], record["referral"], *record["gate"]["targets"].values())
    assert {part["protocol"] for part in parts} == {given}
    assert "Read `given_groups`" in stderr and "(given_groups)" in stderr and given in stdout
    card = bundle.read("MODEL_CARD.md").decode()
    assert "of 9 given groups" in card and "Recall under `given_groups`" in card and "given_groups accuracy" in card
    assert card.count("read this one") == 1 and re.search("`given_groups`: .*; read this one", card)


def test_the_test_split_measures_the_bundle(said: tuple[Bundle, str, str]) -> None:
    bundle, _, stderr = said
    held_out = bundle.record["held_out"]
    assert held_out and held_out["images"] == 12 and held_out["protocol"] == "the data set's own test split"
    assert bundle.record["dataset"]["images"] == 36 and len(bundle.training_images()) == 36
    assert "the data set's own splits are kept: 36 images are trained on, and 12 test images are kept out" in stderr
    assert "12 images (the data set's own test split)." in bundle.read("MODEL_CARD.md").decode()


def test_nothing_assumes_the_public_set(said: tuple[Bundle, str, str]) -> None:
    bundle, stdout, stderr = said
    card = bundle.read("MODEL_CARD.md").decode()
    for text in (card, stdout, stderr):
        assert not ASSUMED.search(text), ASSUMED.search(text)
    assert "Classifies an image, 64x64 pixels in RGB, into basophil, eosinophil, monocyte, platelet." in card
    assert "not a medical device" in card and "not a medical device" in stderr


def test_bench_says_where_its_accuracy_is_from(
    said: tuple[Bundle, str, str], cells: Path, edge_all: Command, tmp_path: Path
) -> None:
    bundle, _, _ = said
    done = edge_all("bench", "--quick", "--bundle", bundle.path, "--precision", "fp32")
    assert done.returncode == 0 and "cross-validated, given_groups" in done.stderr
    words = ("--precision", "fp32", "--data", cells, "--json", "r.json")
    done = edge_all("bench", "--quick", "--bundle", bundle.path, *words)
    assert done.returncode == 0 and f"only the images of {cells / 'test'} were taken" in done.stderr
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert row["images"] == 12 and row["accuracy_on"] == "unseen images" and row["training_images_left_out"] == 0


@pytest.mark.usefixtures("untimed")
def test_a_study_by_the_patient(cells: Path, edge_all: Command, tmp_path: Path) -> None:
    small = ("study", *SMALL, "--selector", "anova", "--classifier", "naive_bayes", "--features", 8, "--int8", 0)
    words = (*small, "--data", cells, "--out", "s")
    done = edge_all(*words, "--groups", PATIENT)
    assert done.returncode == 0, done.stderr
    assert "36 images are trained on, and 12 test images are kept out" in done.stderr
    report = (tmp_path / "s" / "report.md").read_text(encoding="utf-8")
    assert "Best under given_groups" in report and report.count("Read this one") == 1
    assert not re.search(r"leuk|smear|taleqani|aria et al", report, re.IGNORECASE)
    again = edge_all(*words)
    assert again.returncode == 1 and "begun with other groups of images, or without" in again.stderr
    refused = edge_all(*small, "--data", cells, "--out", "t", "--protocol", "given_groups")
    assert refused.returncode == 1 and "give --groups too" in refused.stderr
