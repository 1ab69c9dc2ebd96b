"""`edge-all bench`: rows, what accuracy was measured on, and a probe that can fail."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_bundle import colour_graph, exchanged, refused_graph, write_colour_bundle
from helpers_command import Command
from helpers_terminal import lines, run_on_terminal
from PIL import Image

from edge_all import bench, probe
from edge_all.bench import plot, verdict
from edge_all.bench.labels import labels
from edge_all.bench.rows import Row
from edge_all.bundle import Bundle
from edge_all.errors import DataError, TargetError
from edge_all.targets import EngineOptions

KEYS = {
    "bundle", "backbone", "tap", "selector", "classifier", "target", "precision", "accuracy", "balanced_accuracy",
    "agreement_fp32", "images", "latency_ms", "graph_ms", "load_ms", "throughput_ips", "rss_mb", "model_mb",
}  # fmt: skip


def test_rows_with_data(
    edge_all_program: Command, colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    words = ["--bundle", colour_bundle.path, "--data", coloured_folder, "--json", report]
    done = edge_all_program("bench", "--quick", *words)
    assert done.returncode == 0, done.stderr
    content = json.loads(report.read_text())
    assert content["machine"]["cores"] >= 1 and "onnxruntime" in content["machine"]["engines"]
    assert [row["precision"] for row in content["rows"]] == ["int8", "fp32"]
    for row in content["rows"]:
        assert set(row) >= KEYS
        assert row["accuracy"] == row["balanced_accuracy"] == row["agreement_fp32"] == 100
        assert row["images"] == 12 and row["accuracy_on"] == "unseen images"
        assert row["latency_ms"]["p50"] >= row["graph_ms"]["p50"] > 0
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
        assert row["rss_mb"] > 10 and row["queries"] >= 12


def test_agreement_where_only_int8_was_asked_for(
    edge_all: Command, colour_bundle: Bundle, coloured_folder: Path
) -> None:
    report = coloured_folder.parent / "report.json"
    words = ["--bundle", colour_bundle.path, "--data", coloured_folder, "--precision", "int8", "--json", report]
    assert edge_all("bench", "--quick", *words).returncode == 0
    rows = json.loads(report.read_text())["rows"]
    assert len(rows) == 1 and rows[0]["agreement_fp32"] == 100


def test_training_images_never_count_while_there_are_others(coloured_folder: Path, tmp_path: Path) -> None:
    files = sorted(coloured_folder.rglob("*.png"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    some = write_colour_bundle(tmp_path / "some", known=tuple(digests[:5]))
    chosen = bench.labelled(coloured_folder, some)
    assert (len(chosen.files), chosen.basis, chosen.seen) == (7, "unseen", 5)
    assert not set(chosen.files) & {str(path) for path in files[:5]}
    every = write_colour_bundle(tmp_path / "every", known=tuple(digests))
    assert bench.labelled(coloured_folder, every).basis == "seen"
    assert len(bench.labelled(coloured_folder, every, limit=6).files) == 6


def test_accuracy_on_training_images_is_shouted(edge_all: Command, coloured_folder: Path, tmp_path: Path) -> None:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in coloured_folder.rglob("*.png")]
    write_colour_bundle(tmp_path / "every", known=tuple(digests))
    done = edge_all("bench", "--quick", "--bundle", tmp_path / "every", "--data", coloured_folder)
    assert "WARNING" in done.stderr and "trained on" in done.stderr


def test_without_data_it_is_the_exports_accuracy(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--json", report)
    assert done.returncode == 0 and "export's own" in done.stderr and "2 of 2 rows" in done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert {row["accuracy"] for row in rows} == {90.0} and {row["images"] for row in rows} == {30}


def test_a_probe_that_disagrees_exits_3(edge_all: Command, colour_bundle: Bundle) -> None:
    wrong = exchanged(colour_bundle, "model.cpu.int8.onnx", colour_graph(gain=-8.0))
    done = edge_all("bench", "--quick", "--bundle", wrong.path)
    assert done.returncode == 3 and "probe disagrees" in done.stderr and "cpu int8" in done.stderr


def test_probe_verdict(colour_bundle: Bundle) -> None:
    from edge_all.classifier import start

    verdict = probe.check(start(colour_bundle, EngineOptions(), "fp32"))
    assert verdict.passed and verdict.images == verdict.same_label == 3
    assert verdict.max_difference == pytest.approx(0, abs=1e-6)
    assert probe.images(colour_bundle).dtype == np.uint8


def test_data_that_does_not_fit(colour_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        bench.labelled(tmp_path / "nothing", colour_bundle)
    (tmp_path / "other" / "Cats").mkdir(parents=True)
    with pytest.raises(DataError, match="no image of Blue, Green, Réd"):
        bench.labelled(tmp_path / "other", colour_bundle)


def test_folders_whose_names_are_not_quite_the_classes(colour_bundle: Bundle, coloured_folder: Path) -> None:
    exact = bench.labelled(coloured_folder, colour_bundle)
    assert exact.notices == ()
    (coloured_folder / "Blue").rename(coloured_folder / "blue ")
    chosen = bench.labelled(coloured_folder, colour_bundle)
    assert chosen.labels == exact.labels
    assert chosen.notices == ("the folder 'blue ' was taken for the class 'Blue'",)


def test_what_is_left_out_is_counted(colour_bundle: Bundle, coloured_folder: Path) -> None:
    (coloured_folder / "Blue").rename(coloured_folder / "Azure")
    (coloured_folder / "Green" / "0.png").rename(coloured_folder / "0.png")
    chosen = bench.labelled(coloured_folder, colour_bundle)
    assert len(chosen.files) == 7
    left_out, missing = chosen.notices
    assert left_out.startswith("5 images of") and left_out.endswith("4 in Azure, 1 in no folder")
    assert "no image of Blue" in missing


def test_data_in_splits_says_which_folder_to_give(colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path) -> None:
    for name in ("train", "val"):
        shutil.copytree(coloured_folder, tmp_path / "split" / name)
    with pytest.raises(DataError, match="such as .*train, or merge them"):
        bench.labelled(tmp_path / "split", colour_bundle)


def test_files_that_cannot_be_read_are_no_wrong_answers(
    edge_all: Command, colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path
) -> None:
    (coloured_folder / "Blue" / "0.png").write_bytes(b"damaged")
    (coloured_folder / "Green" / "9.png").symlink_to(tmp_path / "nowhere.png")
    words = ["--bundle", colour_bundle.path, "--data", coloured_folder, "--precision", "int8", "--json", "report.json"]
    done = edge_all("bench", "--quick", *words)
    assert done.returncode == 0, done.stderr
    assert "edge-all: 2 of 13 images could not be read and count in no figure: " in done.stderr
    content = json.loads((tmp_path / "report.json").read_text())
    row = content["rows"][0]
    assert (row["accuracy"], row["images"], row["unreadable"], row["agreement_fp32"]) == (100, 11, 2, 100)
    assert len(content["notices"]) == 1 and str(coloured_folder / "Green" / "9.png") in content["notices"][0]


def test_nothing_can_be_read(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    for file in coloured_folder.rglob("*.png"):
        file.write_bytes(b"damaged")
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--data", coloured_folder)
    assert done.returncode == 1 and "none of 12 could be read" in done.stderr
    for file in coloured_folder.rglob("*.png"):
        file.unlink()
        file.symlink_to("nowhere.png")
    with pytest.raises(DataError, match="none of 12 images can be read, first "):
        bench.labelled(coloured_folder, colour_bundle)


def test_report_that_cannot_be_written(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--json", tmp_path / "no" / "report.json")
    assert done.returncode == 1 and "report.json" in done.stderr


def row(accuracy: float, ms: float, agreement: float = 100.0, passed: bool = True, on: str = "unseen images") -> Row:
    given = {
        "bundle": "b", "tap": "t", "target": "cpu", "precision": "int8", "accuracy": accuracy, "images": 10,
        "agreement_fp32": agreement, "latency_ms": {"p50": ms}, "probe": {"passed": passed}, "rss_mb": 9.0,
        "accuracy_on": on,
    }  # fmt: skip
    return cast(Row, given)


def test_the_pareto_front() -> None:
    points = [(98.0, 5.0), (97.0, 2.0), (97.0, 3.0), (96.0, 2.0), (98.0, 5.0), (99.0, 9.0)]
    assert verdict.pareto(points) == [True, True, False, False, True, True]


def test_what_to_deploy() -> None:
    rows = [row(98.0, 5), row(97.6, 2), row(97.4, 1), row(99.0, 1, passed=False), row(99.0, 1, agreement=98.9)]
    chosen, why = verdict.deploy(rows)
    assert chosen is rows[1] and "97.6 % on 10 unseen images, 2.00 ms" in why
    assert verdict.deploy([row(99.0, 1, passed=False)])[0] is None
    seen = row(100.0, 1, on="seen images")
    assert verdict.deploy([*rows, seen])[0] is rows[1]
    assert "was trained on these" in verdict.deploy([seen])[1]
    assert "not measured on the same images" in verdict.deploy([*rows, row(97.7, 1, on="export (block)")])[1]


def test_rows_take_turns(colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row measures twice in a row while another is waiting, and the order is turned round."""
    turns: list[str] = []
    turn = bench.Child.turn

    def watched(child: bench.Child, seconds: float) -> float:
        turns.append(child._name[-4:])
        return turn(child, 0.02)

    monkeypatch.setattr(bench.Child, "turn", watched)
    cases, _ = bench.available_cases(colour_bundle, ("cpu",), ())
    rows = bench.run(cases, effort=bench.Effort(None, 10**9, 0.1))
    assert [row["precision"] for row in rows] == ["int8", "fp32"]
    assert turns[:4] == ["int8", "fp32", "fp32", "int8"]


def test_a_row_that_dies_costs_only_itself(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    broken = exchanged(colour_bundle, "model.cpu.int8.onnx", refused_graph())
    report = tmp_path / "report.json"
    done = edge_all("bench", "--quick", "--bundle", broken.path, "--json", report)
    assert done.returncode == 1 and "refuses the graph" in done.stderr
    failed, sound = json.loads(report.read_text())["rows"]
    assert failed["precision"] == "int8" and "refuses" in failed["error"] and sound["latency_ms"]["p50"] > 0


def test_a_child_that_is_killed_is_an_error(colour_bundle: Bundle) -> None:
    job = {"bundle": str(colour_bundle.path), "target": "cpu", "precision": "fp32", "device": None, "threads": 1}
    with bench.Child(
        cast(Any, job) | {"digest": colour_bundle.digest, "files": None, "queries": 10, "seconds": 1.0}
    ) as child:
        child._process.kill()
        with pytest.raises(TargetError, match="died while it was measured"):
            child.turn(0.1)


def test_csv_and_plot(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--csv", table, "--plot", picture)
    assert done.returncode == 0, done.stderr
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and float(rows[0]["latency_ms_p50"]) > 0 and rows[1]["precision"] == "fp32"
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert done.stdout.splitlines()[-1].startswith("Deploy: ")


def test_a_narrow_terminal_gets_fewer_columns(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    words = ["bench", "--quick", "--bundle", colour_bundle.path, "--precision", "fp32"]
    status, shown = run_on_terminal(*words, cwd=tmp_path, columns=60)
    assert status == 0
    header = next(line for line in lines(shown) if line.startswith("bundle"))
    assert header.split()[:9] == ["bundle", "target", "precision", "acc", "%", "=fp32", "%", "p50", "ms"]
    assert "load ms" not in header
    assert all(len(line) <= 60 for line in lines(shown))
    flowing = " ".join(lines(shown))
    assert (
        "too narrow for tap, accuracy on" in flowing and "load ms" in flowing and "--wide prints all columns" in flowing
    )
    piped = edge_all(*words)
    every = next(line for line in piped.stdout.splitlines() if line.startswith("bundle"))
    assert "RSS MB" in every and "load ms" in every and "--wide" not in piped.stderr
    status, shown = run_on_terminal(*words, "--wide", cwd=tmp_path, columns=60)
    assert next(line for line in lines(shown) if line.startswith("bundle")).split() == every.split()


def test_two_bundles_of_one_recipe_are_told_apart(edge_all: Command, tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_colour_bundle(tmp_path / name)
    words = [word for name in ("first", "second", "first/../first") for word in ("--bundle", tmp_path / name)]
    done = edge_all("bench", "--quick", *words, "--precision", "fp32", "--json", "report.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "report.json").read_text())
    assert [row["bundle"] for row in content["rows"]] == ["first", "second"]
    assert {Path(row["path"]).resolve() for row in content["rows"]} == {tmp_path / "first", tmp_path / "second"}
    assert content["deploy"]["row"]["bundle"] in done.stdout.splitlines()[-1]
    assert "\nfirst " in done.stdout and "\nsecond " in done.stdout


def test_the_shortest_names_that_tell_bundles_apart(tmp_path: Path) -> None:
    def bundle_at(place: str, name: str, digest: str) -> Bundle:
        return Bundle(tmp_path / place, {"name": name, "digest": digest})  # type: ignore[typeddict-item]

    alone = bundle_at("a/x", "alone", "1" * 64)
    assert labels([alone]) == {alone.path: "alone"}
    twins = [bundle_at("a/old", "mobilenetv2", "2" * 64), bundle_at("a/new", "mobilenetv2", "3" * 64)]
    assert list(labels([alone, *twins]).values()) == ["alone", "old", "new"]
    same_folder = [bundle_at("a/b", "mobilenetv2", "4" * 64), bundle_at("c/b", "mobilenetv2", "5" * 64)]
    assert list(labels(same_folder).values()) == ["b 44444444", "b 55555555"]
    copies = [bundle_at("a/b", "mobilenetv2", "4" * 64), bundle_at("c/b", "mobilenetv2", "4" * 64)]
    assert list(labels(copies).values()) == [str(tmp_path / "a" / "b"), str(tmp_path / "c" / "b")]


def test_the_legend_names_only_what_is_drawn() -> None:
    pytest.importorskip("matplotlib")
    drawn = {"bundle": "colour", "tap": "last", "target": "cpu", "precision": "fp32"}
    entries = [entry.get_label() for entry in plot._legend([drawn], [("colour", "last")], False)]  # type: ignore
    assert entries == ["colour at last", "cpu", "fp32 (open)"]
