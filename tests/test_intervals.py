"""Figures with their error: intervals over groups, sensitivity, and the referral threshold for a wanted sensitivity."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_command import Command

from edge_all import bench, intervals
from edge_all.bench import verdict
from edge_all.bench.accuracy import measured_accuracy
from edge_all.bench.rows import Row
from edge_all.bundle import Bundle
from edge_all.errors import DataError
from edge_all.export.dataset import Dataset
from edge_all.export.head import caught, familiarity
from edge_all.export.head.scorer import Scorer, positive_classes
from edge_all.intervals import GIVEN_GROUPS, IMAGES, NEAR_DUPLICATES, Units

CLASSES = ("Benign", "Early", "Pre")

TRIALS = 400


def clustered(rng: np.random.Generator, groups: int = 200) -> tuple[np.ndarray, Units]:
    """Images in groups of 1 to 8, right with 90 % on average, and nearly all or nearly none of a group."""
    number = np.repeat(np.arange(groups), rng.integers(1, 9, groups))
    share = rng.beta(1.8, 0.2, groups)
    return rng.random(len(number)) < share[number], Units(number, NEAR_DUPLICATES)


def covered(over: str) -> float:
    """How often the interval holds the true 90 %."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(TRIALS):
        right, units = clustered(rng)
        low, high = intervals.of_share(right, units if over == NEAR_DUPLICATES else Units.images(len(right)))
        held += low <= 90 <= high
    return held / TRIALS


def test_95_of_100_intervals_hold_the_true_accuracy() -> None:
    assert 0.925 <= covered(NEAR_DUPLICATES) <= 0.975


def test_single_images_of_groups_would_promise_too_much() -> None:
    assert covered(IMAGES) < 0.85


def test_the_paired_difference_holds_the_true_one_and_tells_more_than_two_intervals() -> None:
    """The second is right where the first is, but for one image in 40: hard groups are hard for both."""
    rng, held, told, apart = np.random.default_rng(1), 0, 0, 0
    for _ in range(100):
        first, units = clustered(rng)
        second = first & (rng.random(len(first)) >= 1 / 40)
        low, high = intervals.difference(first, second, units)
        held += low <= 90 / 40 <= high
        told += intervals.told_apart(first, second, units)
        apart += not intervals.overlap(intervals.of_share(first, units), intervals.of_share(second, units))
    assert 0.90 <= held / 100 <= 0.99
    assert told > 75 and apart == 0


def test_what_is_the_same_is_not_told_apart() -> None:
    right, units = clustered(np.random.default_rng(2))
    low, high = intervals.difference(right, right, units)
    assert low == -high < 0 and high == pytest.approx(100 * (1 - 0.025 ** (1 / 200)), abs=1e-3)
    assert not intervals.told_apart(right, right, units)
    better = right | (np.arange(len(right)) % 3 == 0)
    assert intervals.told_apart(better, right, units) and intervals.told_apart(right, better, units)


@pytest.mark.parametrize("groups", [1, 5, 60])
def test_all_right_is_exact_over_groups(groups: int) -> None:
    units = Units(np.arange(120) % groups, NEAR_DUPLICATES)
    least = round(100 * 0.025 ** (1 / groups), 3)  # scipy's beta.ppf(0.025, groups, 1): Clopper and Pearson
    assert intervals.of_share(np.ones(120, bool), units) == [least, 100]
    assert intervals.of_share(np.zeros(120, bool), units) == [0, round(100 - least, 3)]


def test_one_group_alone_tells_hardly_anything() -> None:
    low, high = intervals.of_share(np.arange(10) < 6, Units(np.zeros(10, np.int64), NEAR_DUPLICATES))
    assert low < 5 and high > 95


def test_balanced_accuracy_where_all_is_right() -> None:
    """Four classes of 25 groups have the bound of 100 groups; a class of few groups is where errors may hide."""
    labels = np.repeat(np.arange(4), 25)
    found = intervals.of_score(labels, labels, "abcd", Units.images(100))
    assert found["balanced_accuracy"] == found["accuracy"] == [round(100 * 0.025 ** (1 / 100), 3), 100]
    assert found["recall"]["a"] == [round(100 * 0.025 ** (1 / 25), 3), 100]
    few = np.concatenate([labels[:75], [3]])
    found = intervals.of_score(few, few, "abcd", Units.images(76))
    alone = np.linspace(0.025, 1, 100_000)  # its true recall; the others' follows from the probability of what was seen
    assert found["balanced_accuracy"][0] == pytest.approx(
        100 * ((alone + 3 * (0.025 / alone) ** (1 / 75)) / 4).min(), abs=1e-3
    )


def test_a_score_has_all_its_intervals_again_and_again() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), [60, 90, 150])
    answers = np.where(rng.random(300) < 0.9, labels, (labels + 1) % 3)
    units = Units(rng.integers(0, 150, 300), NEAR_DUPLICATES)
    found = intervals.of_score(labels, answers, CLASSES, units, (1, 2))
    assert found == intervals.of_score(labels, answers, CLASSES, units, (1, 2))
    order = rng.permutation(300)
    shuffled = Units(-7 * units.groups[order], NEAR_DUPLICATES)  # neither order nor numbering matters
    assert found == intervals.of_score(labels[order], answers[order], CLASSES, shuffled, (1, 2))
    assert (found["over"], found["count"]) == (NEAR_DUPLICATES, len(np.unique(units.groups)))
    recalls = {name: 100 * (answers == labels)[labels == k].mean() for k, name in enumerate(CLASSES)}
    detected = intervals.detection(labels, answers, (1, 2))
    figures = {
        "accuracy": 100 * (answers == labels).mean(), "balanced_accuracy": np.mean([*recalls.values()]), **detected,
    }  # fmt: skip
    for name, value in figures.items():
        low, high = cast(Any, found)[name]
        assert low < value < high < low + 20, name
    assert all(found["recall"][name][0] < value < found["recall"][name][1] for name, value in recalls.items())
    assert "sensitivity" not in intervals.of_score(labels, answers, CLASSES, units)


def test_a_class_without_images_has_no_recall() -> None:
    labels = np.array([0, 0, 1, 1])
    found = intervals.of_score(labels, labels, CLASSES, Units.images(4), (2,))
    assert set(found["recall"]) == {"Benign", "Early"} and "sensitivity" not in found and "specificity" in found
    assert intervals.detection(labels, labels, (2,)) == {"specificity": 100}


def test_sensitivity_by_hand() -> None:
    """Of 4 Benign one is called Early; of 10 positive two are called Benign, and Early for Pre is no miss."""
    labels = np.repeat([0, 1, 2], [4, 5, 5])
    answers = np.array([0, 0, 0, 1, *[1, 1, 1, 2, 0], *[2, 2, 1, 1, 0]])
    assert intervals.detection(labels, answers, (1, 2)) == {"sensitivity": 80, "specificity": 75}
    assert intervals.detection(labels, answers, ()) == {}


def drawn(labels: np.ndarray) -> Dataset:
    """A data set of which only the labels matter."""
    count = len(labels)
    names = tuple(map(str, range(count)))
    return Dataset(Path(), CLASSES, names, labels, names, np.zeros((count, 32, 32, 3), np.uint8))


def answers(called: list[int], sure: list[float]) -> np.ndarray:
    """Probabilities ``[N, 3]`` that name these classes with these probabilities."""
    probabilities = np.repeat((1 - np.array(sure))[:, np.newaxis] / 2, 3, axis=1)
    probabilities[np.arange(len(called)), called] = sure
    return probabilities


@pytest.mark.parametrize(
    ("wanted", "least"),
    [(60, 0.0), (70, 0.6), (80, 0.7), (90, 0.8), (95, 0.9), (100, 0.9)],
)
def test_the_smallest_threshold_that_catches_enough(wanted: float, least: float) -> None:
    """Four of ten positives are missed; each must be below the threshold, and no more than needed are."""
    found = caught.threshold(np.array([0.7, 0.9, 0.6, 0.8]), 10, wanted)
    assert found == (np.nextafter(least, 1) if least else 0)


def test_what_is_certain_is_never_referred() -> None:
    assert caught.threshold(np.array([1.0, 0.7]), 10, 100) == np.nextafter(0.7, 1)
    assert caught.threshold(np.array([1.0]), 10, 100) == 0


def test_the_referral_for_a_wanted_sensitivity() -> None:
    """Of five positives one is right, one named for another, one unfamiliar, and two are missed with 0.6 and 0.9."""
    labels = np.array([1, 1, 2, 2, 1, 0, 0, 0])
    probabilities = answers([1, 2, 0, 0, 0, 0, 0, 1], [0.9, 0.9, 0.95, 0.6, 0.9, 0.7, 0.95, 0.8])
    unfamiliar = np.arange(8) == 2
    scorer = Scorer(drawn(labels), Units.images(8), (1, 2))
    by_coverage = familiarity.referral(labels, probabilities)

    def asked(wanted: float) -> Any:
        return caught.referral(by_coverage, scorer, probabilities, unfamiliar, wanted)

    found = asked(80)
    assert found["threshold"] == np.nextafter(0.6, 1) and found["coverage"] == 87.5
    assert found["error"] == pytest.approx(100 * 4 / 7, abs=1e-3) and found["curve"] == by_coverage["curve"]
    assert found["caught"]["reached"] == 80 and found["caught"]["passed"] == pytest.approx(66.667)
    assert found["caught"]["count"] == 5 and found["caught"]["interval"][0] < 80 < found["caught"]["interval"][1]
    assert caught.sentence(found).startswith("--sensitivity 80: images under 0.6000 are referred; 80.00 % of the pos")
    everything = asked(100)
    assert everything["caught"]["reached"] == 100 and everything["threshold"] == np.nextafter(0.9, 1)
    assert everything["caught"]["interval"] == [round(100 * 0.025 ** (1 / 5), 3), 100]
    assert everything["caught"]["passed"] == pytest.approx(33.333)
    probabilities[4] = [1, 0, 0]
    missed = asked(100)
    assert missed["caught"]["reached"] == 80
    assert caught.sentence(missed).startswith("--sensitivity 100 is not reached by any threshold; with the one that")


def test_nothing_answered_is_no_error() -> None:
    point = familiarity.answered(np.array([0, 1]), answers([0, 0], [0.6, 0.7]), 0.9)
    assert point == {"threshold": 0.9, "coverage": 0, "error": 0}


def test_positive_classes_are_named_as_they_are() -> None:
    assert positive_classes(CLASSES, ("Pre", "Early", "Pre")) == (1, 2) and positive_classes(CLASSES, ()) == ()
    with pytest.raises(DataError, match=r"--positive early: no class has this name; wanted .*Benign, Early, Pre$"):
        positive_classes(CLASSES, ("early",))
    with pytest.raises(DataError, match="leave out those that are negative"):
        positive_classes(CLASSES, CLASSES)


def test_options_that_do_not_go_together(edge_all: Command, drawn: Path) -> None:
    words = ("export", "--backbone", "mobilenetv2", "--weights", "random", "--tap", "features.4", "--data", drawn)
    alone = edge_all(*words, "--sensitivity", 99)
    assert alone.returncode == 2 and "give --positive CLASS too" in alone.stderr
    assert edge_all(*words, "--positive", "Pro", "--sensitivity", 101).returncode == 2
    unknown = edge_all(*words, "--positive", "Pro", "--positive", "Erly")
    assert unknown.returncode == 1 and "wanted one or more of Benign, Early, Pre, Pro" in unknown.stderr


def test_bench_resamples_the_groups_of_a_file_of_labels(
    colour_bundle: Bundle, coloured_folder: Path, edge_all: Command
) -> None:
    """Of 12 images 11 belong to 3 patients, and one to nobody."""
    files = [path.relative_to(coloured_folder).as_posix() for path in sorted(coloured_folder.rglob("*.png"))]
    lines = [f"{file},{file.split('/')[0]},{'' if i == 5 else f'patient {i % 3}'}" for i, file in enumerate(files)]
    listed = coloured_folder / "labels.csv"
    listed.write_text("\n".join(["file,label,group", *lines, ""]), encoding="utf-8")
    chosen = bench.labelled(None, colour_bundle, labels=listed)
    right = list(chosen.labels)
    measured = measured_accuracy(chosen, colour_bundle.classes, right, None, ("Blue",))
    found = measured["intervals"]
    assert (found["over"], found["count"]) == (GIVEN_GROUPS, 4) and measured["sensitivity"] == 100
    assert found["accuracy"] == [round(100 * 0.025 ** (1 / 4), 3), 100]
    alone = measured_accuracy(bench.labelled(coloured_folder, colour_bundle), colour_bundle.classes, right, None)
    assert (alone["intervals"]["over"], alone["intervals"]["count"]) == (IMAGES, 12) and "sensitivity" not in alone
    words = ("--quick", "--bundle", colour_bundle.path, "--precision", "fp32", "--labels", listed, "--csv", "rows.csv")
    done = edge_all("bench", *words)
    assert done.returncode == 0 and "bootstrap over 4 given groups" in done.stderr, done.stderr
    with open(coloured_folder.parent / "rows.csv", newline="", encoding="utf-8") as file:
        (line,) = csv.DictReader(file)
    assert float(line["intervals_accuracy_low"]) == found["accuracy"][0] and line["intervals_accuracy_high"] == "100.0"


def row(accuracy: float, ms: float, interval: tuple[float, float]) -> Row:
    given = {
        "bundle": f"b{ms}", "tap": "t", "target": "cpu", "precision": "int8", "accuracy": accuracy, "images": 10,
        "agreement_fp32": 100.0, "latency_ms": {"p50": ms}, "probe": {"passed": True}, "rss_mb": 9.0,
        "accuracy_on": "unseen images", "intervals": {"accuracy": list(interval)},
    }  # fmt: skip
    return cast(Row, given)


def test_rows_whose_intervals_overlap_are_not_ranked() -> None:
    slow, fast, poor = row(98, 5, (96, 99)), row(95, 2, (92, 97)), row(80, 1, (75, 85))
    assert not verdict.told_apart(slow, fast) and verdict.told_apart(slow, poor)
    assert verdict.front([slow, fast, poor]) == [False, True, True]
    chosen, why = verdict.deploy([slow, fast, poor])
    assert chosen is slow and "Not told from it in accuracy, and faster: b2 at t, cpu int8 (95.0 %, 2.00 ms)" in why
    assert "Not told" not in verdict.deploy([slow, poor])[1]
