"""The device checks itself: `edge-all doctor`, and the precision that classify chooses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import colour_graph, exchanged, refused_graph
from helpers_command import Command

from edge_all import doctor, load, machine, probe, self_check
from edge_all.bundle import Bundle
from edge_all.errors import GateError
from edge_all.targets import EngineOptions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def drifting(bundle_: Bundle) -> Bundle:
    """Its INT8 answers as on a CPU whose accumulators overflow."""
    return exchanged(bundle_, "model.cpu.int8.onnx", colour_graph(gain=-8.0))


def test_a_sound_bundle(edge_all_program: Command, colour_bundle: Bundle) -> None:
    done = edge_all_program("doctor", "--bundle", colour_bundle.path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {check["precision"] for check in report["checks"]} == {"int8", "fp32"}
    for check in report["checks"]:
        assert check["available"] and check["probe"]["passed"] and check["graph_ms"] > 0
    assert report["machine"]["cores"] >= 1 and "CPUExecutionProvider" in report["devices"]["onnxruntime"]
    assert report["recommendation"]["target"] == "cpu" and report["digest"] == colour_bundle.digest
    shown = edge_all_program("doctor", "--bundle", colour_bundle.path)
    assert shown.returncode == 0 and "passed" in shown.stdout and "Use here: --target cpu" in shown.stdout


def test_int8_that_drifts(edge_all: Command, colour_bundle: Bundle) -> None:
    done = edge_all("doctor", "--bundle", drifting(colour_bundle).path)
    assert done.returncode == 3 and "cpu int8" in done.stderr
    assert "FAILED" in done.stdout and "--precision fp32" in done.stdout and "do not use it" in done.stdout


def test_a_corrupted_probe(edge_all: Command, colour_bundle: Bundle) -> None:
    with np.load(colour_bundle.path / probe.FILE) as archive:
        arrays = dict(archive)
    wrong = {key: value[:, ::-1] for key, value in arrays.items() if key != "images"}
    spoiled = exchanged(colour_bundle, probe.FILE, probe.pack(arrays["images"], wrong))
    done = edge_all("doctor", "--bundle", spoiled.path)
    assert done.returncode == 3 and "none of it" in done.stdout
    classified = edge_all("classify", "--bundle", spoiled.path, colour_bundle.path)
    assert classified.returncode == 3 and not classified.stdout
    assert "no precision for target cpu reproduces the bundle's probe" in classified.stderr


def test_a_graph_that_cannot_run_costs_only_itself(edge_all: Command, colour_bundle: Bundle) -> None:
    broken = exchanged(colour_bundle, "model.cpu.int8.onnx", refused_graph())
    done = edge_all("doctor", "--bundle", broken.path, "--json")
    assert done.returncode == 3
    checks = {check["precision"]: check for check in json.loads(done.stdout)["checks"]}
    assert not checks["int8"]["available"] and "refuses the graph" in checks["int8"]["error"]
    assert checks["fp32"]["probe"]["passed"]
    assert load(broken.path, precision="auto").precision == "fp32"


def test_a_target_that_is_not_there(edge_all: Command, colour_bundle: Bundle) -> None:
    done = edge_all("doctor", "--bundle", colour_bundle.path, "--target", "gpu", "--json")
    (check,) = json.loads(done.stdout)["checks"]
    assert not check["available"] and check["error"]


def test_classify_takes_fp32_where_int8_drifts(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    wrong = drifting(colour_bundle).path
    for _ in range(2):
        done = edge_all("classify", coloured_folder, "--bundle", wrong, "--json")
        assert done.returncode == 0, done.stderr
        assert {json.loads(line)["precision"] for line in done.stdout.splitlines()} == {"fp32"}
        assert "int8 on cpu answers differently" in done.stderr and "using fp32" in done.stderr
    obeyed = edge_all("classify", coloured_folder, "--bundle", wrong, "--json", "--precision", "int8")
    assert {json.loads(line)["precision"] for line in obeyed.stdout.splitlines()} == {"int8"}
    assert "answered differently" in obeyed.stderr


def test_a_verdict_is_cached(colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = self_check.choose(colour_bundle, EngineOptions(), said.append)
    assert first.precision == "int8" and not said

    def never(classifier: object) -> None:
        raise AssertionError("the probe was run again")

    monkeypatch.setattr(probe, "check", never)
    assert self_check.choose(colour_bundle, EngineOptions(), said.append).precision == "int8"
    monkeypatch.setitem(machine.describe(), "cpu", "another CPU")
    with pytest.raises(AssertionError, match="run again"):
        self_check.choose(colour_bundle, EngineOptions(), said.append)


def test_a_damaged_verdict_is_made_again(colour_bundle: Bundle, cache: Path) -> None:
    self_check.choose(colour_bundle, EngineOptions(), print)
    (file,) = (cache / "checks").iterdir()
    file.write_text("{")
    assert self_check.load_cached(colour_bundle, EngineOptions(), "int8") is None
    self_check.choose(colour_bundle, EngineOptions(), print)
    assert self_check.load_cached(colour_bundle, EngineOptions(), "int8") == ""


def test_a_cache_that_cannot_be_written_is_no_error(colour_bundle: Bundle, cache: Path) -> None:
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("a file in the way")
    assert self_check.choose(colour_bundle, EngineOptions(), print).precision == "int8"


def test_auto_in_python(colour_bundle: Bundle) -> None:
    assert load(colour_bundle.path, precision="auto").precision == "int8"
    wrong = drifting(colour_bundle)
    assert load(wrong.path, precision="auto").precision == "fp32"
    with pytest.raises(GateError):
        self_check.choose(exchanged(wrong, "model.fp32.onnx", colour_graph(gain=-8.0)), EngineOptions(), print)


def test_the_limits_of_a_cpu_are_told() -> None:
    assert doctor.remark(["AVX2", "AVX-VNNI"]) is None
    assert "7-bit" in str(doctor.remark(["AVX2"]))


def test_a_system_that_does_not_tell_the_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "7-bit" in str(doctor.remark([])) or doctor.sys.platform != "linux"
    monkeypatch.setattr(doctor.sys, "platform", "win32")
    assert doctor.remark([]) is None
