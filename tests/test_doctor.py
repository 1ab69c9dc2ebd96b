"""The device checks itself: `edge-all doctor`, and the precision that classify chooses."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import colour_graph, exchanged, refused_graph
from helpers_command import Command

from edge_all import bundle, classifier, doctor, load, machine, probe, self_check
from edge_all.bundle import Bundle
from edge_all.errors import GateError, TargetError
from edge_all.targets import Engine, EngineOptions, engine_cache, open_engine


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
    monkeypatch.setitem(machine.identity(), "cpu", "another CPU")
    with pytest.raises(AssertionError, match="run again"):
        self_check.choose(colour_bundle, EngineOptions(), said.append)


def test_a_damaged_verdict_is_made_again(colour_bundle: Bundle, cache: Path) -> None:
    self_check.choose(colour_bundle, EngineOptions(), print)
    (file,) = (cache / "checks").iterdir()
    sound = file.read_text()
    for damage in ("{", "", "[" * 50_000, "{}", "[]", sound.replace('"cpu"', '"gpu"'), sound + " " * 2**17):
        file.write_text(damage)
        self_check.choose(colour_bundle, EngineOptions(), print)
        assert file.read_text() == sound


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
    assert "7-bit" in str(doctor.remark([])) or sys.platform != "linux"
    monkeypatch.setattr(sys, "platform", "win32")
    assert doctor.remark([]) is None


def refusing(models: dict[bytes, str]) -> Callable[[bytes, EngineOptions], Engine]:
    """`open_engine` as long as some graphs cannot be loaded, each for its reason."""

    def opened(model: bytes, options: EngineOptions) -> Engine:
        if model in models:
            raise TargetError(models[model])
        return open_engine(model, options)

    return opened


def test_a_passing_fault_is_told_and_not_remembered(
    colour_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    int8 = colour_bundle.read("model.cpu.int8.onnx")
    with monkeypatch.context() as fault:
        fault.setattr(classifier, "open_engine", refusing({int8: "out of memory"}))
        assert self_check.choose(colour_bundle, EngineOptions(), said.append).precision == "fp32"
    assert said == ["int8 on cpu cannot be loaded now (out of memory): using fp32; run edge-all doctor"]
    assert {json.loads(file.read_text())["precision"] for file in (cache / "checks").iterdir()} == {"fp32"}
    assert self_check.choose(colour_bundle, EngineOptions(), said.append).precision == "int8" and len(said) == 1


@pytest.mark.parametrize("reasons", [("no memory", "no memory"), ("no memory", "no driver")])
def test_where_nothing_can_be_loaded_the_reason_is_the_error(
    colour_bundle: Bundle, cache: Path, monkeypatch: pytest.MonkeyPatch, reasons: tuple[str, str]
) -> None:
    said: list[str] = []
    models = [colour_bundle.read(f"model.{name}.onnx") for name in ("cpu.int8", "fp32")]
    monkeypatch.setattr(classifier, "open_engine", refusing(dict(zip(models, reasons, strict=True))))
    with pytest.raises(TargetError, match="no memory"):
        self_check.choose(colour_bundle, EngineOptions(), said.append)
    assert said == ([] if len({*reasons}) == 1 else ["fp32 on cpu cannot be loaded now (no driver)"])
    assert not (cache / "checks").exists()


def test_a_device_that_is_not_there_yet(edge_all: Command, cache: Path) -> None:
    pytest.importorskip("openvino")
    done = edge_all("classify", "x.png", "--target", "openvino", "--device", "NPU")
    assert done.returncode == 1 and done.stderr.count("finds no device NPU") == 1
    assert "differently" not in done.stderr and not (cache / "checks").exists()


def test_a_wrong_precision_and_one_that_cannot_be_loaded(
    colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    wrong = drifting(colour_bundle)
    monkeypatch.setattr(classifier, "open_engine", refusing({wrong.read("model.fp32.onnx"): "no memory"}))
    with pytest.raises(TargetError, match="no memory"):
        self_check.choose(wrong, EngineOptions(), said.append)
    (line,) = said
    assert line.startswith("int8 on cpu answers differently on this machine (")


def test_an_engine_that_fails_while_it_runs(colour_bundle: Bundle) -> None:
    engine = open_engine(colour_bundle.read("model.fp32.onnx"), EngineOptions())
    with pytest.raises(TargetError, match="failed to run the graph"):
        engine.run(np.zeros((1, 5, 5, 3), np.uint8))


def test_not_a_number_is_a_verdict(colour_bundle: Bundle) -> None:
    said: list[str] = []
    broken = exchanged(colour_bundle, "model.cpu.int8.onnx", colour_graph(gain=float("nan")))
    assert self_check.choose(broken, EngineOptions(), said.append).precision == "fp32"
    assert "answers differently on this machine (0 of 3 labels, probabilities off by up to 1.000)" in said[0]


def test_a_verdict_says_what_it_is_about(colour_bundle: Bundle, cache: Path) -> None:
    self_check.choose(drifting(colour_bundle), EngineOptions(), print)
    verdicts = [json.loads(file.read_text()) for file in (cache / "checks").iterdir()]
    wrong = next(verdict for verdict in verdicts if verdict["precision"] == "int8")
    assert wrong["machine"]["cpu"] and wrong["machine"]["engines"]["onnxruntime"]
    assert wrong["bundle"] == bundle.load(colour_bundle.path).digest
    assert (wrong["target"], wrong["device"]) == ("cpu", None) and "0 of 3 labels" in wrong["wrong"]


@pytest.mark.parametrize("precision", [None, "int8"])
def test_a_precision_that_is_asked_for_is_used_with_a_warning(
    colour_bundle: Bundle, caplog: pytest.LogCaptureFixture, precision: str | None
) -> None:
    wrong = drifting(colour_bundle)
    assert load(wrong.path, precision=precision).precision == "int8" and not caplog.records
    self_check.choose(wrong, EngineOptions(), print)
    assert load(wrong.path, precision=precision).precision == "int8"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "int8 on cpu answered differently on this machine" in caplog.text


def test_doctor_and_classify_agree(edge_all: Command, colour_bundle: Bundle, cache: Path) -> None:
    """What doctor finds out is what is remembered, so that a wrong verdict lasts until doctor is run."""
    case = self_check._case(colour_bundle, EngineOptions(), "int8", None)
    file = cache.resolve() / self_check._file(case)
    file.parent.mkdir(mode=0o700, parents=True)
    file.write_text(json.dumps({**case, "wrong": "all of it"}))
    assert load(colour_bundle.path, precision="auto").precision == "fp32"
    assert edge_all("doctor", "--bundle", colour_bundle.path).returncode == 0
    assert load(colour_bundle.path, precision="auto").precision == "int8"


@pytest.mark.parametrize("planted", [colour_graph(-7.5), bundle.load(bundle.BUILTIN).read("model.fp32.onnx")], ids=len)
@pytest.mark.parametrize(("checked", "precision"), [(False, "auto"), (True, "auto"), (True, "int8")])
def test_a_planted_graph_is_judged_and_replaced(
    colour_bundle: Bundle, edge_all: Command, coloured_folder: Path, checked: bool, precision: str, planted: bytes
) -> None:
    words = ("classify", coloured_folder, "--bundle", colour_bundle.path, "--json", "--precision", precision)
    sound = [json.loads(line)["label"] for line in edge_all(*words).stdout.splitlines()]
    if checked:
        assert edge_all(*words).returncode == 0
    name = engine_cache.place("onnxruntime", colour_bundle.read("model.cpu.int8.onnx"), {})
    for command in (words, ("doctor", "--bundle", colour_bundle.path)):
        engine_cache.store(name, planted)
        done = edge_all(*command)
        assert done.returncode == 0, done.stderr
        found = engine_cache.load_cached(name)
        assert found and found.content != planted
        if command is words:
            answers = [json.loads(line) for line in done.stdout.splitlines()]
            assert [answer["label"] for answer in answers] == sound
            assert {answer["precision"] for answer in answers} == {"int8"}


def test_doctor_tells_a_wrong_answer_from_none(edge_all: Command, colour_bundle: Bundle) -> None:
    done = edge_all("doctor", "--bundle", exchanged(colour_bundle, "model.cpu.int8.onnx", refused_graph()).path)
    assert done.returncode == 3 and "could not be run here now" in done.stderr and "other answers" not in done.stderr
