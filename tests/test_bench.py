"""`edge-all bench`: rows, what accuracy was measured on, and a probe that can fail."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import colour_graph, write_colour_bundle

from edge_all import bench, bundle, probe
from edge_all.bundle import Bundle
from edge_all.errors import DataError

Run = Callable[..., subprocess.CompletedProcess[str]]

KEYS = {
    "bundle", "backbone", "tap", "selector", "classifier", "target", "precision", "accuracy", "balanced_accuracy",
    "agreement_fp32", "images", "latency_ms", "graph_ms", "load_ms", "throughput_ips", "rss_mb", "model_mb",
}  # fmt: skip


def test_rows_with_data(edge_all: Run, colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = ["--bundle", colour_bundle.path, "--data", coloured_folder, "--json", report]
    done = edge_all("bench", "--quick", *words)
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


def test_agreement_where_only_int8_was_asked_for(edge_all: Run, colour_bundle: Bundle, coloured_folder: Path) -> None:
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


def test_accuracy_on_training_images_is_shouted(edge_all: Run, coloured_folder: Path, tmp_path: Path) -> None:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in coloured_folder.rglob("*.png")]
    write_colour_bundle(tmp_path / "every", known=tuple(digests))
    done = edge_all("bench", "--quick", "--bundle", tmp_path / "every", "--data", coloured_folder)
    assert "WARNING" in done.stderr and "trained on" in done.stderr


def test_without_data_it_is_the_exports_accuracy(edge_all: Run, colour_bundle: Bundle, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--json", report)
    assert done.returncode == 0 and "export's own" in done.stderr and "2 of 2 rows" in done.stderr
    rows = json.loads(report.read_text())["rows"]
    assert {row["accuracy"] for row in rows} == {90.0} and {row["images"] for row in rows} == {30}


def test_a_probe_that_disagrees_exits_3(edge_all: Run, colour_bundle: Bundle) -> None:
    record = dict(colour_bundle.record)
    files = {name: colour_bundle.read(name) for name in record.pop("files")}
    files["model.cpu.int8.onnx"] = colour_graph(gain=-8.0)
    wrong = bundle.write(colour_bundle.path, record, files)
    done = edge_all("bench", "--quick", "--bundle", wrong.path)
    assert done.returncode == 3 and "probe disagrees" in done.stderr and "cpu int8" in done.stderr


def test_probe_verdict(colour_bundle: Bundle) -> None:
    from edge_all.classifier import start

    verdict = probe.check(start(colour_bundle, "cpu", "fp32"))
    assert verdict.passed and verdict.images == verdict.same_label == 3
    assert verdict.max_difference == pytest.approx(0, abs=1e-6)
    assert probe.images(colour_bundle).dtype == np.uint8


def test_data_that_does_not_fit(colour_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        bench.labelled(tmp_path / "nothing", colour_bundle)
    (tmp_path / "other" / "Cats").mkdir(parents=True)
    with pytest.raises(DataError, match="no image of Blue, Green, Réd"):
        bench.labelled(tmp_path / "other", colour_bundle)


def test_report_that_cannot_be_written(edge_all: Run, colour_bundle: Bundle, tmp_path: Path) -> None:
    done = edge_all("bench", "--quick", "--bundle", colour_bundle.path, "--json", tmp_path / "no" / "report.json")
    assert done.returncode == 1 and "report.json" in done.stderr
