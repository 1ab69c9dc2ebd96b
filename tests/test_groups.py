"""Patients or slides that are given: read, kept on one side, and the protocol that everything then goes by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the export extra is not installed")

from edge_all import protocols
from edge_all.errors import DataError
from edge_all.export import dataset as data
from edge_all.export.dataset.record import Dataset
from edge_all.export.features import Rows
from edge_all.export.head import drift, familiarity
from edge_all.export.head.drift import Fields
from edge_all.export.head.fit import HeadSpec
from edge_all.export.head.reference import Reference, measure
from edge_all.export.head.scorer import Scorer, resampled
from edge_all.export.quantize import gate, heads
from edge_all.export.quantize.calibration import halves
from edge_all.export.quantize.heads import QuantizedPair

GIVEN = protocols.GIVEN_GROUPS


def refusal(root: Path, groups: str) -> str:
    with pytest.raises(DataError) as caught:
        data.read(root, groups=groups)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(root: Path, path: Path, group_of: dict[int, str]) -> str:
    """A file that gives the images of each number a group, as far as `group_of` has one."""
    lines = ["file,group"]
    for file in sorted(root.glob("*/*.jpg")):
        number = int(file.stem.partition("-")[2])
        if number in group_of:
            lines.append(f"{file.relative_to(root).as_posix()},{group_of[number]}")
    path.write_text("\n".join([*lines, "not/here.jpg,nobody"]), encoding="utf-8")
    return str(path)


PAIRS = {number: f"p{(number + 1) // 2}" for number in range(1, 13)}
"""Six patients, each with two images of every class."""


def test_groups_of_a_file(drawn: Path, tmp_path: Path) -> None:
    found = data.read(drawn, groups=table(drawn, tmp_path / "g.csv", PAIRS))
    assert len(found.given) == 48 and set(found.given) == {f"p{k}" for k in range(1, 7)}
    assert dict(zip(found.files, found.given, strict=True))["Pre/Pre-004.jpg"] == "p2"
    part = found.subset(found.labels == 1)
    assert len(part.given) == 12 and part.given_digest != found.given_digest != ""
    assert data.read(drawn).given == () and data.read(drawn).given_digest == ""


@pytest.mark.parametrize(
    ("expression", "first"),
    [(r"-(\d\d)\d\.jpg", "00"), (r"(?:Benign|Early|Pre|Pro)/(?P<group>[^-]+)", "Benign"), (r"(x)?-(?P<group>0)", "0")],
)
def test_groups_of_a_regular_expression(drawn: Path, expression: str, first: str) -> None:
    assert data.read(drawn, groups=expression).given[0] == first


def test_the_digest_of_groups_is_of_who_belongs_together(drawn: Path, tmp_path: Path) -> None:
    named = data.read(drawn, groups=table(drawn, tmp_path / "g.csv", PAIRS))
    renamed = data.read(drawn, groups=table(drawn, tmp_path / "g.csv", {k: f"x{v}" for k, v in PAIRS.items()}))
    other = data.read(drawn, groups=table(drawn, tmp_path / "g.csv", PAIRS | {1: "p2"}))
    assert named.given_digest == renamed.given_digest != other.given_digest


def test_what_is_wrong_with_groups(drawn: Path, tmp_path: Path) -> None:
    path = table(drawn, tmp_path / "g.csv", {k: v for k, v in PAIRS.items() if k < 12})
    assert f"4 of 48 images have no group by {path}, first Benign/Benign-012.jpg" in refusal(drawn, path)
    assert "48 of 48 images have no group by '(x)y'" in refusal(drawn, "(x)y")
    assert "no regular expression (" in refusal(drawn, "(")
    assert "it has no group: put parentheses" in refusal(drawn, "Pro")
    assert "there is no such file; wanted a CSV file" in refusal(drawn, "nothing.csv")
    Path(path).write_text("file,group\nPro/Pro-001.jpg,a\nPro/Pro-001.jpg,b\n")
    assert f"{path} line 3: Pro/Pro-001.jpg is in line 2 too, with group 'a'" in refusal(drawn, path)
    Path(path).write_text("file,patient\nPro/Pro-001.jpg,a\n")
    assert f"{path} line 1: no column 'group'" in refusal(drawn, path)


def test_groups_of_a_file_of_labels(drawn: Path, tmp_path: Path) -> None:
    lines = ["file,label,group"]
    lines += [f"{p.relative_to(drawn).as_posix()},{p.parent.name},{p.stem[-2:]}" for p in drawn.glob("*/*.jpg")]
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines))
    assert set(data.read(drawn, labels=path).given) == {f"{k:02d}" for k in range(1, 13)}
    with pytest.raises(DataError, match="both name groups; give one of them"):
        data.read(drawn, labels=path, groups=r"(\d)")
    path.write_text("\n".join([*lines[:-1], lines[-1].rpartition(",")[0] + ","]))
    with pytest.raises(DataError, match="1 of 48 images have no group"):
        data.read(drawn, labels=path)


def test_a_file_of_groups_in_the_data_is_not_picked_up(drawn: Path, tmp_path: Path) -> None:
    lines = ["file,label", *(f"{p.as_posix()},{p.parent.name}" for p in drawn.absolute().glob("*/*.jpg"))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    table(drawn, tmp_path / "groups.csv", PAIRS)
    assert data.read(drawn, labels=tmp_path / "labels.csv").given == ()


def test_given_groups_and_near_duplicates_are_merged() -> None:
    duplicates = np.array([0, 1, 1, 2, 3, 4])
    assert data.merged(duplicates, ("a", "a", "b", "c", "c", "d")).tolist() == [0, 0, 0, 1, 1, 2]
    assert data.merged(duplicates, ()) is duplicates


def made_up(labels: list[int], given: list[str]) -> Dataset:
    names = tuple(f"{k}.jpg" for k in range(len(labels)))
    pixels = np.zeros((len(labels), 32, 32, 3), np.uint8)
    classes = tuple("abcdefgh"[: max(labels) + 1])
    return Dataset(Path(), classes, names, np.array(labels), names, pixels, given=tuple(given))


def test_folds_by_given_groups() -> None:
    rng = np.random.default_rng(0)
    given = [f"p{k}" for k in rng.integers(0, 14, 300)]
    labels = sorted(rng.integers(0, 4, 300).tolist())
    found = made_up(labels, given)
    duplicates = np.arange(300) // 2
    units = data.merged(np.arange(300), found.given)
    split = data.every(found, duplicates, units, seed=0)
    assert list(split) == [*protocols.PROTOCOLS, GIVEN] and protocols.headline(split) == GIVEN
    assert data.leaks(split[GIVEN], units) == 0 and set(split[GIVEN].tolist()) == set(range(5))
    for label in range(4):
        share = np.bincount(split[GIVEN][found.labels == label], minlength=5) / 75
        assert share.min() > 0.08 and share.max() < 0.35
    again = data.folds(found, GIVEN, groups=units)
    assert np.array_equal(again, split[GIVEN])


def test_rare_classes_are_in_two_folds() -> None:
    """A class of two patients, each with many images of another class, is never in one fold alone."""
    labels = [0] * 90 + [1] * 90 + [2] * 6
    given = [f"p{k % 6}" for k in range(90)] + [f"p{k % 6}" for k in range(90)] + ["p0"] * 3 + ["p1"] * 3
    found = made_up(labels, given)
    for seed in range(5):
        folds = data.folds(found, GIVEN, groups=data.merged(np.arange(186), found.given), seed=seed)
        assert len(set(folds[180:].tolist())) == 2


def test_groups_that_cannot_be_divided() -> None:
    four = made_up([0] * 10 + [1] * 10, [f"p{k % 4}" for k in range(20)])
    with pytest.raises(DataError, match="the 20 images are of 4 groups .* want 5 or more"):
        data.folds(four, GIVEN, groups=data.merged(np.arange(20), four.given))
    lonely = made_up([0] * 10 + [1] * 10, [f"p{k}" for k in range(10)] + ["q"] * 10)
    with pytest.raises(DataError, match="class 'b' is in one group only"):
        data.folds(lonely, GIVEN, groups=data.merged(np.arange(20), lonely.given))
    with pytest.raises(ValueError, match="needs groups"):
        data.folds(lonely, GIVEN)


def test_hold_out_keeps_whole_groups_out(drawn: Path, tmp_path: Path) -> None:
    found = data.read(drawn, groups=table(drawn, tmp_path / "g.csv", PAIRS))
    divided = data.divide(found, hold_out=True)
    assert divided.held_out and not set(divided.held_out.given) & set(divided.training.given)
    assert divided.protocol == "given_groups, one of five folds" and not list(divided.sentences)
    without = data.divide(data.read(drawn), hold_out=True)
    assert without.protocol == "block, last of five runs" and without.held_out and len(without.held_out) == 8


def test_images_of_a_patient_in_the_test_split_are_dropped_from_training(drawn: Path) -> None:
    found = data.read(drawn, groups=r"-0(\d\d)")
    parts = tuple("test" if group == "12" or file == "Pro/Pro-001.jpg" else "train"
                  for group, file in zip(found.given, found.files, strict=True))  # fmt: skip
    own = Dataset(
        found.root, found.classes, found.files, found.labels, found.digests, found.thumbnails, parts, found.given
    )
    divided = data.divide(own, hold_out=False)
    assert divided.held_out and len(divided.held_out) == 5
    assert divided.crossing == 3 and "01" not in divided.training.given


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Cross-validated on made-up features that tell the patient much better than the class."""
    rng = np.random.default_rng(1)
    patients = rng.integers(0, 20, 400)
    labels = np.sort(rng.integers(0, 2, 400))
    rows = 0.5 * rng.normal(size=(400, 12)) + 4 * rng.normal(size=(20, 2, 12))[patients, labels]
    found = made_up(labels.tolist(), [f"p{k}" for k in patients])
    split = data.every(found, np.arange(400), data.merged(np.arange(400), found.given), seed=0)
    spec = HeadSpec("anova", "naive_bayes", count=12)
    scorer = Scorer(found, resampled(found, data.merged(np.arange(len(found)), found.given)))
    return measure(None, scorer, Rows(rows.astype(np.float32)), split, spec)  # type: ignore[arg-type]


def test_known_patients_flatter(reference: Reference) -> None:
    assert reference.headline == GIVEN
    assert reference.scores["random"]["accuracy"] > reference.scores[GIVEN]["accuracy"] + 10


def test_everything_goes_by_the_given_groups(reference: Reference) -> None:
    folds = reference.splits[GIVEN]
    half = halves(folds, data.merged(np.arange(400), reference.data.given))
    pair = QuantizedPair((None, None), (half.evaluated_by_shipped, ~half.evaluated_by_shipped), reference.rows.plain)  # type: ignore[arg-type]
    assert heads.plain(pair, reference).verdict["protocol"] == GIVEN
    patients = np.array(reference.data.given)
    assert not set(patients[half.shipped]) & set(patients[half.evaluated_by_shipped])
    assert gate.judge(reference.scores[GIVEN], {**reference.scores[GIVEN], "agreement_fp32": 100.0},
                      reference.data.counts, GIVEN)["protocol"] == GIVEN  # fmt: skip
    referral = familiarity.referral(reference.data.labels, reference.answers[GIVEN], GIVEN)
    assert referral["protocol"] == GIVEN
    said = familiarity.sentence({"protocol": GIVEN, "asked": 99.0, "limit": 1.0, "accepted": {"fp32": 99.0}}, referral)
    assert said.endswith("(given_groups)")


def test_drift_says_under_which_protocol(reference: Reference) -> None:
    inputs = reference.rows.plain.astype(float)
    fields = Fields(inputs, reference.answers[GIVEN], reference.data.labels, reference.splits[GIVEN], GIVEN)
    chosen = np.arange(400)
    made = drift.solve(fields, chosen, {"brighter": (inputs + 1, reference.answers[GIVEN])})
    assert made and made.protocol == made.record["protocol"] == GIVEN
