"""Where features are taken: names of places, changed images, and what `--tap auto` chooses."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from helpers_graphs import by_onnxruntime, pictures, random_weights

from edge_all import intervals
from edge_all.errors import EdgeAllError
from edge_all.export import backbones, features, tap_table, taps
from edge_all.export.assemble import tap_report
from edge_all.export.dataset import Dataset, augment, folds, looks, read
from edge_all.export.dataset.synthetic import draw
from edge_all.export.features import Rows
from edge_all.export.graph import edit, timing
from edge_all.export.graph.build import Trunk, backbone_graph
from edge_all.export.graph.preprocess import Preprocess
from edge_all.export.head import evaluate, robustness
from edge_all.export.head.fit import HeadSpec
from edge_all.export.recipe import Conditions
from edge_all.export.taps import candidates, sizes
from edge_all.export.taps.candidates import Candidate
from edge_all.export.taps.pooled import Pooled, Search
from edge_all.export.taps.sizes import Sized
from edge_all.export.taps.status import Status
from edge_all.intervals import Units

pytestmark = pytest.mark.slow

SIZE = (64, 64)


def test_several_places_stand_side_by_side() -> None:
    backbone = backbones.load("mobilenetv2")
    images = pictures(3, SIZE)

    def at(name: str) -> np.ndarray:
        graph = backbone_graph(backbone, random_weights(backbone.name), tap_name=name, input_size=SIZE)
        return by_onnxruntime(graph, image=images)["features"]

    both = at("features.2:std+features.4")
    assert both.shape == (3, 2 * 24 + 32)
    np.testing.assert_allclose(both[:, :24], at("features.2"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(both[:, 48:], at("features.4"), rtol=1e-4, atol=1e-6)


def test_std_is_the_standard_deviation_over_the_map() -> None:
    import torch

    backbone = backbones.load("mobilenetv2")
    images, weights = pictures(2, SIZE), random_weights(backbone.name)
    graph = backbone_graph(backbone, weights, tap_name="features.3:std", input_size=SIZE)
    given = by_onnxruntime(graph, image=images)["features"]
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (backbone.mean, backbone.std))
    with torch.inference_mode():
        (maps,) = Trunk(backbone, weights, ["features.3"]).eval()((pixels - mean) / std)
    wanted = torch.cat([maps.mean((2, 3)), maps.std((2, 3), correction=0)], 1).numpy()
    np.testing.assert_allclose(given, wanted, rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["features.99", "features.2+features.2", "features.2:var", "", "last+features.18"])
def test_a_place_that_is_not_there(name: str) -> None:
    with pytest.raises(EdgeAllError, match="no such tap; wanted auto, last, or one of") as caught:
        backbones.places(backbones.load("mobilenetv2"), name)
    assert "\n" not in str(caught.value)


def test_no_copy_of_a_test_image_is_trained_on() -> None:
    seen: list[tuple[set[float], set[int]]] = []

    def spy(rows: np.ndarray, labels: np.ndarray, shown: np.ndarray) -> None:
        seen.append((set(rows[:, 0].tolist()), set(shown.tolist())))

    numbers = np.arange(20, dtype=np.float32)[:, None]
    rows = Rows(numbers, (numbers + 100, numbers + 200))
    evaluate.fit(rows, np.arange(20) % 4, SimpleNamespace(fit=spy), np.arange(20) >= 5)  # type: ignore[arg-type]
    ((values, shown),) = seen
    assert shown == set(range(5, 20)) and values == {v + c for v in range(5, 20) for c in (0.0, 100.0, 200.0)}


def test_calibration_keeps_an_images_copies_together() -> None:
    """An SVM whose copies leak into its own calibration is sure of noise; told what belongs together, it is not."""
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(60, 30)).astype(np.float32), np.arange(60) % 2
    spec = HeadSpec(selector="anova", classifier="svm", count=30)
    thrice = np.tile(rows, (3, 1)) + rng.normal(scale=0.01, size=(180, 30)).astype(np.float32)
    fresh = rng.normal(size=(200, 30)).astype(np.float32)
    told = spec.fit(thrice, np.tile(labels, 3), np.tile(np.arange(60), 3)).predict_proba(fresh).max(1).mean()
    untold = spec.fit(thrice, np.tile(labels, 3)).predict_proba(fresh).max(1).mean()
    assert told < 0.7 < untold


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """As few images as five folds need."""
    return read(draw(tmp_path_factory.mktemp("drawn"), per_class=6, seed=3))


def _search(data: Dataset, least: int | None = None) -> Search:
    backbone = backbones.load("mobilenetv2")
    spec = HeadSpec(selector="anova", classifier="naive_bayes", count=least)
    return Search(
        backbone, random_weights(backbone.name), data, folds(data, "block"), SIZE, Preprocess(), spec,
        True, "cpu", Units.images(len(data)),
    )  # fmt: skip


def test_auto_compares_every_tap(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "times", lambda target, graphs: [float(len(graph.graph.node)) for graph in graphs])
    search = _search(data)
    choice = taps.choose(search, "balanced", lambda done, total: None)
    name, table = choice.name, choice.table
    named = {candidate["tap"] for candidate in table["candidates"]}
    assert {f"{tap.name}:std" for tap in search.backbone.taps} <= named and name in named
    backbones.places(search.backbone, name)
    assert len(table["first_choice_without_fold"]) == 5 and table["images"] == len(search.data)
    hardest, battery = ({change.name for change in changes} for changes in (augment.HARDEST, augment.BATTERY))
    for candidate in table["candidates"]:
        assert hardest <= set(candidate["changes"]) <= battery
        if candidate["tap"] in (name, *table["first_choice_without_fold"]):
            assert set(candidate["changes"]) == battery, "what is chosen was tried with all"
        assert candidate["worst"] == min(candidate["changes"].values())
        assert candidate["worst"] == candidate["changes"][candidate["worst_change"]]
        low, high = candidate["interval"]
        assert low <= candidate["accuracy"] <= high and 0 <= candidate["transfer"] <= 100
    best = max(table["candidates"], key=lambda candidate: candidate["accuracy"])
    assert not best["told_from_best"] and f"| ={intervals.words(best['interval'])} |" in "\n".join(
        tap_report.lines(table)
    )
    assert name in tap_table.sentence(table) and f"**{name}**" in "\n".join(tap_report.lines(table))

    record = {"taps": table, "backbone": "mobilenetv2", "selector": "anova", "classifier": "naive_bayes"}
    tap_report.check(tmp_path / "report")
    tap_report.write(tmp_path / "report", cast(Any, record))
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"taps.md", "taps.json", "taps.png"}


def test_the_hardest_changes_first_choose_what_all_changes_at_once_choose(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "times", lambda target, graphs: [float(len(graph.graph.node)) for graph in graphs])
    search = _search(data)
    spared = taps.choose(search, "balanced", lambda done, total: None).table
    monkeypatch.setattr(augment, "HARDEST", augment.BATTERY)
    whole = taps.choose(search, "balanced", lambda done, total: None).table
    assert spared["chosen"] == whole["chosen"]
    assert spared["first_choice_without_fold"] == whole["first_choice_without_fold"]
    partial = 0
    for short, full in zip(spared["candidates"], whole["candidates"], strict=True):
        near = {name: pytest.approx(full["changes"][name], abs=5) for name in short["changes"]}
        assert short["tap"] == full["tap"] and short["changes"] == near and short["accuracy"] == full["accuracy"]
        partial += len(short["changes"]) < len(full["changes"])
    assert partial, "some were spared the rest"
    shown = "\n".join(tap_report.lines(spared))
    assert shown.count("| <= ") == partial and "| <= " not in "\n".join(tap_report.lines(whole))


@pytest.mark.parametrize("prefer", list(candidates.TOLERANCE))
def test_settling_gives_what_picking_gives_once_all_is_known(prefer: str) -> None:
    """Candidates at random, of which most of the battery is hidden until it is asked for."""
    rng, names = np.random.default_rng(5), [change.name for change in augment.BATTERY]
    asked = 0
    for _ in range(100):
        hidden, found = {}, []
        for number in range(8):
            base = _candidate(f"tap {number}", rng.uniform(1, 9), rng.uniform(97, 99), 0, rng.uniform(60, 62))
            worse = [np.arange(1000) < rng.uniform(960, 985) for _ in names]
            hidden[base.name] = dict(zip(names, worse, strict=True))
            shown = {change.name: hidden[base.name][change.name] for change in augment.HARDEST}
            found.append(replace(base, changed=shown))
        every = np.ones(1000, bool), np.ones(1000, bool)
        wanted = candidates.pick([replace(c, changed=hidden[c.name]) for c in found], prefer, *every).name
        asked_for: list[str] = []

        def complete(candidate: Candidate) -> None:
            asked_for.append(candidate.name)  # noqa: B023 - called in this round alone
            candidate.changed.update(hidden[candidate.name])  # noqa: B023

        assert candidates.settle(found, prefer, *every, complete).name == wanted
        assert len(asked_for) == len(set(asked_for)), "none is asked for twice"
        asked += len(asked_for)
    assert asked < 0.8 * 100 * 8, "not all are needed"


def test_features_of_the_chosen_place_are_not_computed_again(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the taps were compared with are those that the place's own graph gives."""
    monkeypatch.setattr(timing, "times", lambda target, graphs: [1.0 for _ in graphs])
    search = _search(data)
    choice = taps.choose(search, "balanced", lambda done, total: None)
    graph = backbone_graph(search.backbone, search.weights, tap_name=choice.name, input_size=SIZE)
    choice.keep(graph)
    monkeypatch.setattr(features, "open_runner", lambda engine, graph: pytest.fail("an image is run again"))
    rows = features.training_rows(graph, data, SIZE, Conditions(augment=1))
    (changed,) = robustness.extract([features.Wanted(graph)], data.take(search.tried), SIZE)
    given = by_onnxruntime(graph, image=np.stack(list(features.decoded(data.paths, SIZE))))["features"]
    near = {"rtol": 1e-3, "atol": 1e-4 * np.abs(given).max()}
    np.testing.assert_allclose(rows.plain, given, **near)
    turned = np.stack(list(features.changed(data.take(search.tried), SIZE, augment.BATTERY[0])))
    np.testing.assert_allclose(
        changed[augment.BATTERY[0].name], by_onnxruntime(graph, image=turned)["features"], **near
    )


def _held(name: str, ms: float, clean: float, size: tuple[int, int], familiar: int) -> Sized:
    """A place at a size; only what decides about it is there."""
    search = cast(Any, SimpleNamespace(all_images=(np.ones(1000, bool), np.ones(1000, bool)), size=size))
    candidate = replace(_candidate(name, ms, clean, clean), size=size)
    return Sized(candidate, search, cast(Any, None), Status(search, cast(Any, None), {name: familiar}))


@pytest.mark.parametrize(
    ("ms", "clean", "wanted"),
    [
        (1.0, 98.4, True),
        (1.0, 97.9, False),  # less accurate than balanced lets pass
        (2.0, 98.5, False),  # no faster
    ],
)
def test_a_smaller_input_is_taken_where_it_holds(ms: float, clean: float, wanted: bool) -> None:
    whole = _held("features.4:std", 1.5, 98.5, (224, 224), 0)
    assert sizes.holds(whole, _held("features.4:std", ms, clean, (160, 160), 0), "balanced") is wanted


def test_a_smaller_input_at_which_more_strangers_are_familiar_is_not_scored(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {(96, 96): 1, (64, 64): 2, (80, 80): 1}
    monkeypatch.setattr(Status, "_familiar", lambda self, name, images: found[self.search.size])
    monkeypatch.setattr(timing, "times", lambda target, graphs: [1.0 * edit.size(graph)[0] for graph in graphs])
    monkeypatch.setattr(sizes, "holds", lambda whole, other, prefer: True)
    search = replace(_search(data), size=(96, 96), smaller=((64, 64), (80, 80)))
    table = taps.choose(search, "balanced", lambda done, total: None).table
    assert table["chosen_size"] == [80, 80] and table["smaller"] == {"64x64": 2, "80x80": 1}
    assert "smaller inputs: 64x64: 2, 80x80: 1." in "\n".join(tap_report.lines(table))


@pytest.mark.parametrize(
    ("of_part", "of_all", "wanted", "run"),
    [
        ((0, 0), (0, 0), (0, False), [6, 18]),
        ((0, 1), (2, 1), (2, True), [6, 18]),  # the part lets fewer in, all let more in
        ((3, 1), (0, 1), (3, True), [6]),  # the part lets more in: the others are not run
    ],
)
def test_a_part_of_the_images_says_first_whether_a_smaller_input_lets_more_in(
    data: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    of_part: tuple[int, int],
    of_all: tuple[int, int],
    wanted: tuple[int, bool],
    run: list[int],
) -> None:
    """Of 24 images; how many outsiders are familiar from the smaller input and from the own size."""
    whole, nothing = _search(data), cast(Any, None)
    smaller, filled = replace(whole, size=(48, 48)), []

    def familiar(self: Status, name: str, images: np.ndarray) -> int:
        return (of_all if images.all() else of_part)[self.search is whole]

    monkeypatch.setattr(sizes, "_MANY", 1)
    monkeypatch.setattr(sizes, "fill", lambda search, pooled, images, progress: filled.append(int(images.sum())))
    monkeypatch.setattr(Status, "_familiar", familiar)
    sized = Sized(_candidate("features.2:std", 1, 99, 99), whole, nothing, Status(whole, nothing))
    assert sizes._let_in(Status(smaller, nothing), sized, lambda done, total: None) == wanted
    assert filled == run


def test_sizes_to_try() -> None:
    assert sizes.smaller((224, 224)) == [(160, 160), (192, 192)]
    assert sizes.smaller((299, 299)) == [(224, 224), (256, 256)]
    assert sizes.smaller((240, 320)) == [(160, 224), (192, 288)]
    assert sizes.smaller((32, 32)) == []


def test_a_tap_where_a_stranger_is_familiar_is_passed_over(data: Dataset) -> None:
    found = [_candidate("a:std", 3, 99, 98), _candidate("b:std", 2, 98, 97), _candidate("c:std", 1, 97, 96)]

    def best(familiar: dict[str, int]) -> str:
        status = Status(cast(Any, None), cast(Any, None), familiar)
        return status.best(found, lambda left: max(left, key=lambda c: c.ms)).name

    assert best({"a:std": 0}) == "a:std"
    assert best({"a:std": 1, "b:std": 0}) == "b:std"
    assert best({"a:std": 1, "b:std": 2, "c:std": 3}) == "a:std", "where all are alike the best is taken"


def test_a_smaller_input_has_its_own_features(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The smaller graph is fed smaller pictures, and what it gave is what its own graph gives."""
    monkeypatch.setattr(Status, "_familiar", lambda self, name, images: 0)
    monkeypatch.setattr(timing, "times", lambda target, graphs: [1.0 * edit.size(graph)[0] for graph in graphs])
    monkeypatch.setattr(sizes, "holds", lambda whole, other, prefer: True)
    search = replace(_search(data), size=(96, 96), smaller=((64, 64), (80, 80)))
    choice = taps.choose(search, "balanced", lambda done, total: None)
    assert choice.search.size == (64, 64) and choice.table["chosen_size"] == [64, 64]
    assert {tuple(c["size"]) for c in choice.table["candidates"]} == {(96, 96), (64, 64)}, "the smallest held"
    assert [tap_table.is_chosen(choice.table, c) for c in choice.table["candidates"]].count(True) == 1
    assert "at 64x64 pixels" in tap_table.sentence(choice.table)
    graph = backbone_graph(search.backbone, search.weights, tap_name=choice.name, input_size=(64, 64))
    given = by_onnxruntime(graph, image=np.stack(list(features.decoded(data.paths, (64, 64)))))["features"]
    np.testing.assert_allclose(choice.rows.plain, given, rtol=1e-3, atol=1e-4 * np.abs(given).max())


def test_more_features_than_any_tap_has(data: Dataset) -> None:
    with pytest.raises(EdgeAllError, match="no tap of mobilenetv2 has as many: give at most 2560"):
        taps.choose(_search(data, least=3000), "speed", lambda done, total: None)


def _candidate(name: str, ms: float, clean: float, worst: float, transfer: float = 50) -> Candidate:
    right, labels = np.arange(1000) < 10 * clean, np.arange(1000) % 2
    unseen = np.arange(1000) < 10 * transfer
    return Candidate(name, 10, 1, ms, labels, right, unseen, {"a": right, "b": np.arange(1000) < 10 * worst}, SIZE)


def test_prefer_says_how_much_accuracy_a_millisecond_is_worth() -> None:
    found = [_candidate("slow", 3, 99, 98), _candidate("middle", 2, 98.8, 97.8), _candidate("fast", 1, 98, 97.5)]
    found.append(_candidate("fragile", 0.5, 99.5, 70))
    every = np.ones(1000, bool), np.ones(1000, bool)
    found.append(_candidate("late", 4, 97, 97.6, transfer=60))
    found.append(_candidate("later", 5, 97, 97.6, transfer=60.4))
    chosen = {prefer: candidates.pick(found, prefer, *every).name for prefer in candidates.TOLERANCE}
    assert chosen == {"accuracy": "slow", "balanced": "middle", "speed": "fast", "transfer": "late"}


def test_transfer_counts_each_class_alike() -> None:
    labels, unseen = np.array([0] * 90 + [1] * 10), np.array([True] * 90 + [False] * 10)
    found = Candidate("a", 1, 1, 1.0, labels, unseen, unseen, {"b": unseen}, SIZE)
    every = np.ones(100, bool)
    assert (found.clean(every), found.transfer(every)) == (90, 50)
    assert found.transfer(labels == 0) == 100
    assert found.score("transfer", every, every) == 70 and found.score("balanced", every, every) == 90


def _tinted_dataset(tints: np.ndarray, labels: np.ndarray, grain: int = 6) -> Dataset:
    """Images of nothing but a tint, with a little noise."""
    noise = np.random.default_rng(0).integers(0, grain, (len(labels), 32, 32, 3))
    thumbnails = (40 + 20 * tints[:, None, None, None] + noise).astype(np.uint8)
    names = tuple(str(number) for number in range(len(labels)))
    return Dataset(Path(), ("a", "b"), names, labels, names, thumbnails)


def test_a_look_is_a_tint_and_no_class_lies_in_one() -> None:
    labels, tints = np.repeat([0, 1], 25), np.tile(np.arange(5), 10)
    found = looks(_tinted_dataset(tints, labels))
    assert len(set(zip(found.tolist(), tints.tolist(), strict=True))) == 5, "one number a tint, in both classes"
    assert abs(np.corrcoef(found, tints)[0, 1]) > 0.99, "the numbers are in the order of the tints"
    one_tint = np.where(labels == 1, 0, tints)
    one_tint[-4:] = 1, 2, 3, 4
    found = looks(_tinted_dataset(one_tint, labels, grain=1))
    assert np.bincount(found[labels == 1]).tolist() == [5] * 5, "21 of 25 are one tint: cut into equal parts"
    least = looks(_tinted_dataset(np.arange(10), np.repeat([0, 1], 5)))
    assert np.bincount(least).tolist() == [2] * 5


def test_transfer_tells_a_tap_that_reads_the_stain_from_one_that_reads_the_cell() -> None:
    """Each class has its own five tints, of which neighbours belong to the other class."""
    labels, tints = np.repeat([0, 1], 50), np.tile(np.arange(5), 20)
    backbone, rng = backbones.load("mobilenetv2"), np.random.default_rng(0)
    stain = 2 * tints + labels + rng.normal(0, 0.1, 100)
    cell = labels + rng.normal(0, 0.1, 100)
    rows = np.stack([stain, cell], 1).astype(np.float32)
    columns = {"features.2": np.array([0]), "features.14": np.array([1])}
    pooled = Pooled(cast(Any, None), columns, Rows(rows), {"as it is": rows})
    data, weights = _tinted_dataset(tints, labels), random_weights(backbone.name)
    spec = HeadSpec(selector="anova", classifier="knn", count=1)
    search = Search(
        backbone, weights, data, folds(data, "block"), SIZE, Preprocess(), spec, False, "cpu", Units.images(100)
    )
    names = {"features.2:std": ["features.2"], "features.14:std": ["features.14"]}
    early, late = candidates.scored(search, pooled, names, [1.0, 2.0], lambda done, total: None)
    every = search.all_images
    assert early.clean(every[0]) == late.clean(every[0]) == late.transfer(every[0]) == 100
    assert early.transfer(every[0]) < 30
    assert candidates.pick([early, late], "balanced", *every) is early
    assert candidates.pick([early, late], "transfer", *every) is late


def test_the_battery_is_felt(tmp_path: Path) -> None:
    """Dark and light classes: only the change of brightness may cost anything."""
    right = np.array([True] * 9 + [False])
    table = robustness.table(right, {"turned": right, "dimmed": np.arange(10) < 4})
    assert table == {
        "clean": 90.0,
        "worst": 40.0,
        "worst_change": "dimmed",
        "changes": {"turned": 90.0, "dimmed": 40.0},
    }


def test_features_of_changed_images_are_kept_apart(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    backbone = backbones.load("mobilenetv2")
    graph = backbone_graph(backbone, random_weights(backbone.name), tap_name="features.2", input_size=SIZE)
    extract = partial(features.extract, graph, data, SIZE)
    dark = next(change for change in augment.BATTERY if "darker" in change.name)
    plain, changed = extract(), extract(change=dark)
    assert np.abs(plain - changed).max() > 1e-3
    np.testing.assert_array_equal(extract(change=dark), changed)
    np.testing.assert_array_equal(extract(), plain)
