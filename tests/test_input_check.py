"""Why a picture is unfamiliar: the measures, the reasons, and every output that names them."""

from __future__ import annotations

import csv
import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_bundle import CLASSES, SIZE, colour_record, rewritten, write_colour_bundle
from helpers_command import Command
from PIL import Image

from edge_all import bundle as bundles
from edge_all import input_check, journal, journal_file, limits, record_check
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.export.dataset.changes import Change
from edge_all.export.dataset.synthetic import CLASSES as DRAWN
from edge_all.export.dataset.synthetic import draw_field
from edge_all.export.head.input_check import LOOKS, solve
from edge_all.journal import Journal
from edge_all.record import InputCheckRecord
from edge_all.record_check import RecordError
from edge_all.targets import Answers


def fields(count: int, seed: int) -> list[np.ndarray]:
    return [draw_field(i % len(DRAWN), np.random.default_rng([seed, i])) for i in range(count)]


def measured(pictures: list[np.ndarray], change: Change | None = None) -> np.ndarray:
    changed = [change(picture, str(i)) if change else picture for i, picture in enumerate(pictures)]
    return np.stack([input_check.measures(picture) for picture in changed])


@pytest.fixture(scope="module")
def found() -> InputCheckRecord:
    """What is made of drawn fields."""
    known = fields(16, 0)
    looks = [(reason, change) for reason, changes in LOOKS.items() for change in changes]
    rows = [measured(known), *(measured(known, change) for _, change in looks)]
    return solve(np.array(rows), [reason for reason, _ in looks])


OTHER_STRENGTHS = [
    ("out of focus", Change("a", blur=4.2)),
    ("out of focus", Change("b", blur=8.0)),
    ("scale", Change("c", zoom=0.55)),
    ("scale", Change("d", zoom=2.0)),
    ("too dark", Change("e", gains=(0.5, 0.5, 0.5))),
    ("too dark", Change("f", gamma=2.3)),
    ("too bright", Change("g", gamma=0.4)),
    ("colour", Change("h", gains=(0.65, 1.0, 1.35))),
    ("colour", Change("i", gains=(1.0, 0.7, 1.0))),
]


@pytest.mark.parametrize(("reason", "change"), OTHER_STRENGTHS)
def test_the_reason_is_the_change_that_was_made(reason: str, change: Change, found: InputCheckRecord) -> None:
    """On other fields than it was made of, at other strengths; where it is not sure, it gives none."""
    check = input_check.InputCheck(found)
    named = [check.named(row) for row in measured(fields(12, 1), change)]
    assert set(named) <= {reason, None}
    assert named.count(reason) >= 8


def test_nothing_is_named_for_what_no_microscope_does(found: InputCheckRecord) -> None:
    check = input_check.InputCheck(found)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    stripes = np.repeat((np.arange(224) // 14 % 2 * 255).astype(np.uint8)[:, None, None], 224, 1).repeat(3, 2)
    flat = np.full((224, 224, 3), (40, 200, 90), np.uint8)
    assert check.reasons((noise, stripes, flat)) == [None] * 3
    plain = [check.named(row) for row in measured(fields(12, 2))]
    assert plain.count(None) >= 11


def test_a_brighter_copy_measures_the_same_but_for_its_levels() -> None:
    """The measures of length are those of contrast: a gain moves them together, blur moves the short ones."""
    picture = fields(1, 3)[0]
    plain, blurred = input_check.measures(picture), input_check.measures(Change("x", blur=3.0)(picture, ""))
    dark = input_check.measures(Change("x", gains=(0.5, 0.5, 0.5))(picture, ""))
    fallen = (plain - blurred)[:6]
    assert fallen[0] > fallen[2] > fallen[4] > 0 and fallen[0] > 1
    assert np.ptp((plain - dark)[1:6]) < 0.1 and (plain - dark)[3] == pytest.approx(2 * np.log(2), abs=0.1)


@pytest.mark.parametrize("size", [(32, 32), (48, 64), (33, 250)])
def test_any_input_of_a_graph_is_measured(size: tuple[int, int]) -> None:
    for value in (0, 255):
        given = input_check.measures(np.full((*size, 3), value, np.uint8))
        assert given.shape == (limits.MEASURES,) and np.isfinite(given).all()


class Strange:
    """An engine to which every picture is unfamiliar."""

    cached = None
    description = "an engine"

    def __init__(self, unfamiliarity: float = 1.5) -> None:
        self._unfamiliarity = unfamiliarity

    def run(self, images: np.ndarray) -> Answers:
        return Answers(np.array([[0.1, 0.7, 0.2]], np.float32), np.array([self._unfamiliarity], np.float32))


def dark_or_home() -> InputCheckRecord:
    """A check that knows two looks of a flat grey picture: 200 bright, and 40."""
    home, dark = (input_check.measures(np.full((*SIZE, 3), level, np.uint8)).tolist() for level in (200, 40))
    whitening = np.eye(len(home)).tolist()
    looks = [{"reason": "too dark", "measures": dark, "limit": 2.0}]
    return cast(
        InputCheckRecord,
        {"home": home, "looks": looks, "whitening": whitening, "margin": 1.0, "images": 9},
    )


@pytest.fixture
def checking(tmp_path: Path) -> Bundle:
    made = write_colour_bundle(tmp_path / "checking")
    rewritten(made, lambda record: record.update(input_check=dark_or_home()))
    return bundles.load(made.path)


def grey(level: int) -> np.ndarray:
    return np.full((*SIZE, 3), level, np.uint8)


def test_only_an_unfamiliar_picture_has_a_reason(checking: Bundle, colour_bundle: Bundle) -> None:
    strange = Classifier(checking, "cpu", "fp32", cast(Any, Strange()))
    assert strange.classify_pixels(grey(40)).reason == "too dark"
    assert strange.classify_pixels(grey(200)).reason is None
    assert strange.classify_pixels(grey(5)).reason is None
    assert strange.trace(strange.classify_pixels(grey(45)))["reason"] == "too dark"
    known = Classifier(checking, "cpu", "fp32", cast(Any, Strange(0.5)))
    assert known.classify_pixels(grey(40)).reason is None
    without = Classifier(colour_bundle, "cpu", "fp32", cast(Any, Strange()))
    assert without.classify_pixels(grey(40)).reason is None


def test_the_command_says_it(
    checking: Bundle, edge_all: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "__init__", _strange(Classifier.__init__), raising=True)
    dark, light = tmp_path / "dark.png", tmp_path / "light.png"
    Image.fromarray(grey(40)).save(dark)
    Image.fromarray(grey(200)).save(light)
    given = ("classify", dark, light, "--bundle", checking.path, "--precision", "fp32")
    lines = [json.loads(line) for line in edge_all(*given, "--json").stdout.splitlines()]
    assert [line["reason"] for line in lines] == ["too dark", None]
    rows = list(csv.DictReader(edge_all(*given, "--csv").stdout.splitlines()))
    assert [row["reason"] for row in rows] == ["too dark", ""] and list(rows[0])[-1] == "reason"
    table = edge_all(*given).stdout.splitlines()
    assert table[0].startswith("unfamiliar: too dark  ") and table[1].startswith("unfamiliar            ")
    assert table[0].index(" ms") == table[1].index(" ms")


def _strange(original: Any) -> Any:
    def made(self: Classifier, bundle: Bundle, target: str, precision: str, engine: Any) -> None:
        original(self, bundle, target, precision, Strange())

    return made


def test_the_journal_keeps_it_and_an_older_one_is_brought_up(checking: Bundle, tmp_path: Path) -> None:
    classifier = Classifier(checking, "cpu", "fp32", cast(Any, Strange()))
    answer = replace(classifier.classify_pixels(grey(40)), sha256="a" * 64)
    path = tmp_path / "journal.sqlite"
    with Journal.open(path) as opened:
        added = opened.add(journal.answered(classifier, "a.png", 9, answer))
        assert added and added.reason == "too dark"
    connection = sqlite3.connect(path)  # as the version before wrote it
    connection.execute("ALTER TABLE entries DROP COLUMN reason")
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with Journal.open(path) as opened:
        assert [entry.reason for entry in opened.entries()] == [None]
        opened.add(journal.answered(classifier, "b.png", 9, replace(answer, sha256="b" * 64)))
        assert [entry.reason for entry in opened.entries()] == [None, "too dark"]
    assert journal_file.SCHEMA == 4


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"home": [0.0] * 3}, "input_check.home"),
        ({"whitening": [[0.0] * 15]}, "input_check.whitening"),
        ({"looks": [{"reason": "a\nb", "measures": [0.0] * 15, "limit": 1.0}]}, r"input_check.looks\[0\].reason"),
        ({"margin": "far"}, "input_check.margin"),
    ],
)
def test_a_record_that_cannot_be_used_is_refused(change: dict[str, Any], problem: str) -> None:
    record = bundles.load(bundles.BUILTIN).record | {"input_check": {**dark_or_home(), **change}}
    with pytest.raises(RecordError, match=problem):
        record_check.check(record, "bundle.json")
    assert CLASSES and colour_record()
