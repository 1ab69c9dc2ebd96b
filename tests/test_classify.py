"""`edge-all classify` and the library behind it, on a bundle made by hand."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_picture, encoded
from helpers_command import Command
from helpers_terminal import lines, run_on_terminal

import edge_all
from edge_all import loading
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.classify_all import classify_all
from edge_all.cli.writers import TRACE
from edge_all.errors import BundleError, ImageError, TargetError
from edge_all.prediction import Prediction
from edge_all.targets import Answers, EngineOptions, open_engine


def test_labels_and_probabilities(colour_bundle: Bundle, tmp_path: Path) -> None:
    classifier = edge_all.load(colour_bundle.path)
    for channel, name in ((0, "Réd"), (1, "Green"), (2, "Blue")):
        path = tmp_path / "x.png"
        colour_picture(channel).save(path)
        prediction = classifier.classify(path)
        assert prediction.label == name
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert 0 < prediction.graph_ms <= prediction.ms
        assert prediction.probabilities == classifier.classify(path.read_bytes()).probabilities


def test_a_batch_answers_as_one_by_one(colour_bundle: Bundle) -> None:
    classifier = edge_all.load(colour_bundle.path, precision="fp32")
    images = np.stack([np.asarray(colour_picture(k % 3, seed=k)) for k in range(7)])
    alone = np.concatenate([classifier.probabilities(image[None]) for image in images])
    np.testing.assert_allclose(classifier.probabilities(images), alone, atol=1e-6)


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_an_engine_answers_what_an_array_holds_now(colour_bundle: Bundle, target: str) -> None:
    """It may read pixels where they are, so the same array, other pixels, and arrays that are no plain ones."""
    engine = open_engine(colour_bundle.read("model.cpu.int8.onnx"), EngineOptions(target))
    pictures = [np.asarray(colour_picture(k))[None] for k in range(3)]
    wanted = [engine.run(picture.copy()).probabilities for picture in pictures]
    room = np.empty_like(pictures[0])
    frozen = [picture.copy() for picture in pictures]
    for k in (0, 1, 2, 0):
        room[...] = pictures[k]
        frozen[k].flags.writeable = False
        mirrored = np.ascontiguousarray(pictures[k][:, :, ::-1])[:, :, ::-1]
        for images in (room, room, frozen[k], mirrored, room):
            np.testing.assert_array_equal(engine.run(images).probabilities, wanted[k])
    together = engine.run(np.concatenate(pictures)).probabilities
    np.testing.assert_allclose(together, np.concatenate(wanted), atol=1e-6)


class Stub:
    """An engine with one answer for every image."""

    description = "an engine"

    def __init__(self, probabilities: list[float], unfamiliarity: float | None = None) -> None:
        self._probabilities, self._unfamiliarity = probabilities, unfamiliarity

    def run(self, images: np.ndarray) -> Answers:
        unfamiliarity = None if self._unfamiliarity is None else np.array([self._unfamiliarity], np.float32)
        return Answers(np.array([self._probabilities], np.float32), unfamiliarity)


def answers_of(bundle: Bundle, engine: Stub) -> tuple[Callable[[], object], Callable[[], object]]:
    """Both ways to ask a classifier."""
    classifier = Classifier(bundle, "cpu", "int8", cast(Any, engine))
    picture = encoded(colour_picture(0), "PNG")
    blank = np.zeros((1, 48, 64, 3), np.uint8)
    return lambda: classifier.classify(picture), lambda: classifier.probabilities(blank)


@pytest.mark.parametrize("answer", [[np.nan, 0, 0], [0.5, np.inf, 0.5], [np.inf, -np.inf, 0]])
def test_an_answer_that_is_not_a_number_is_no_label(colour_bundle: Bundle, answer: list[float]) -> None:
    for ask in answers_of(colour_bundle, Stub(answer)):
        with pytest.raises(TargetError, match="an engine answered with NaN at int8"):
            ask()
    for unfamiliarity in (np.nan, np.inf):
        for ask in answers_of(colour_bundle, Stub([1.0, 0.0, 0.0], unfamiliarity)):
            with pytest.raises(TargetError, match="an engine answered with NaN at int8"):
                ask()


@pytest.mark.parametrize(
    "answer", [[0, 0, 0], [0.9, 0.9, 0.9], [-3, 2, 2], [1, 0], [0.5, 0.2, 0.2, 0.1], [0.5, 0.2, 0.2]]
)
def test_values_that_are_no_probabilities_are_no_label(colour_bundle: Bundle, answer: list[float]) -> None:
    for ask in answers_of(colour_bundle, Stub(answer)):
        with pytest.raises(TargetError, match="values that are no probabilities .* at int8; use --precision fp32"):
            ask()


def test_rounding_is_no_error(colour_bundle: Bundle) -> None:
    for ask in answers_of(colour_bundle, Stub([0.996, 0.001, -0.001], 0.5)):
        assert ask() is not None


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_many_at_once_answer_as_one_by_one(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path, target: str
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(40):
        colour_picture(i % 3, seed=i).save(folder / f"{i:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    words = ("classify", folder, "--bundle", colour_bundle.path, "--target", "cpu", "--json")
    done = edge_all(*words)
    assert done.returncode == 1 and "39 answered, 1 refused, 0 not looked at" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["file"]).name for line in lines] == [f"{i:02d}.png" for i in range(40)]
    one = loading.load(colour_bundle.path, precision="int8")
    model = colour_bundle.read("model.cpu.int8.onnx")
    several = Classifier(colour_bundle, target, "int8", open_engine(model, EngineOptions(target, streams=2)))
    predictions = dict(classify_all(several, sorted(folder.iterdir()), 2))
    for line in lines:
        if "error" in line:
            assert isinstance(predictions[Path(line["file"])], ImageError)
            continue
        wanted = list(one.classify(line["file"]).probabilities.values())
        prediction = predictions[Path(line["file"])]
        assert isinstance(prediction, Prediction)
        np.testing.assert_allclose(list(line["probabilities"].values()), wanted, atol=1e-6)
        np.testing.assert_allclose(list(prediction.probabilities.values()), wanted, atol=1e-5)


def test_precision_and_target_that_are_not_there(colour_bundle: Bundle) -> None:
    assert edge_all.load(colour_bundle.path).precision == "int8"
    with pytest.raises(BundleError, match="not made for target openvino"):
        edge_all.load(colour_bundle.path, target="openvino")
    with pytest.raises(TargetError, match="only target openvino has devices"):
        edge_all.load(colour_bundle.path, device="GPU")


def test_gpu_without_cuda_says_what_to_install() -> None:
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(TargetError, match="pip install onnxruntime-gpu"):
        open_engine(b"", EngineOptions("gpu"))


def test_openvino_refuses_a_device_that_is_not_there() -> None:
    pytest.importorskip("openvino")
    with pytest.raises(TargetError, match="no device NPU here"):
        open_engine(b"", EngineOptions("openvino", "NPU"))


def test_json_lines_in_order_with_errors(
    edge_all_program: Command, colour_bundle: Bundle, coloured_folder: Path
) -> None:
    good = sorted((coloured_folder / "Blue").iterdir())
    bad = coloured_folder / "cut, ünï.png"
    bad.write_bytes(good[0].read_bytes()[:50])
    files = [good[0], bad, good[1], coloured_folder / "missing.png", coloured_folder / "Green"]
    done = edge_all_program("classify", *files, "--bundle", colour_bundle.path, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [Path(row["file"]).name for row in rows[:4]] == ["0.png", bad.name, "1.png", "missing.png"]
    assert [set(row) == {"file", "error"} for row in rows] == [False, True, False, True] + [False] * 4
    answer = {"file", "label", "status", "top", "probabilities", "target", "precision", "ms"}
    assert set(rows[0]) == answer | set(TRACE)
    assert [row["label"] for row in rows[4:]] == ["Green"] * 4
    assert list(rows[0]["probabilities"]) == list(CLASSES)
    assert rows[0]["target"] == "cpu" and rows[0]["precision"] == "int8"


def test_csv_and_table(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    done = edge_all("classify", coloured_folder, "--bundle", colour_bundle.path, "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.returncode == 0 and len(rows) == 12
    assert {row["label"] for row in rows} == set(CLASSES)
    assert {"file", "label", "p_Blue", "ms", "error"} <= set(rows[0])
    done = edge_all("classify", coloured_folder, "--bundle", colour_bundle.path)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 12 and "Réd" in done.stdout
    assert "not a medical device" in done.stderr


@pytest.mark.parametrize("images", [3, 40])
def test_an_answer_can_be_traced(edge_all: Command, colour_bundle: Bundle, tmp_path: Path, images: int) -> None:
    """To the very bytes, the bundle, the versions and the time; from 32 images on, threads work."""
    from edge_all import __version__

    (tmp_path / "in").mkdir()
    digests = {}
    for i in range(images):
        file = tmp_path / "in" / f"{i:02d}.png"
        colour_picture(i % 3, seed=i).save(file)
        digests[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    words = ("classify", tmp_path / "in", "--bundle", colour_bundle.path)
    rows = [json.loads(line) for line in edge_all(*words, "--json").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(edge_all(*words, "--csv").stdout)))
    assert {row["file"]: row["sha256"] for row in rows} == digests == {row["file"]: row["sha256"] for row in table}
    for row in [*rows, *table]:
        assert (row["bundle"], row["bundle_digest"], row["version"]) == ("colour", colour_bundle.digest, __version__)
        assert "onnxruntime" in row["engine"].lower() and row["time"].endswith("Z") and float(row["threshold"]) == 0
    assert rows[0]["unfamiliarity"] is None and table[0]["unfamiliarity"] == ""


def test_newest_bundle_in_models_is_the_default(edge_all: Command, coloured_folder: Path, tmp_path: Path) -> None:
    from helpers_bundle import write_colour_bundle

    write_colour_bundle(tmp_path / "models" / "colour")
    done = edge_all("classify", coloured_folder / "Blue", "--json")
    assert done.returncode == 0 and '"Blue"' in done.stdout.splitlines()[0]


def test_nothing_to_classify(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = edge_all("classify", tmp_path / "empty", "--bundle", colour_bundle.path)
    assert done.returncode == 1 and "no image there" in done.stderr and not done.stdout


@pytest.mark.parametrize(
    "words",
    [["classify"], ["nonesuch"], ["classify", "x.png", "--target", "tpu"], ["classify", "x.png", "--precision", "int4"],
     ["export"], ["export", "--backbone", "nonesuch"], ["export", "--backbone", "vgg19", "--features", "0"],
     ["export", "--backbone", "vgg19", "--resize", "big"], ["bench", "--quick", "yes"]],
)  # fmt: skip
def test_usage_errors_exit_2(edge_all: Command, words: list[str]) -> None:
    done = edge_all(*words)
    assert done.returncode == 2 and "Error" in done.stderr and not done.stdout


def test_damaged_bundle_is_one_line(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    model = colour_bundle.path / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    done = edge_all("classify", coloured_folder, "--bundle", colour_bundle.path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "model.fp32.onnx" in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    import sys

    command: list[str | Path] = [Path(sys.executable).with_name("edge-all"), "--debug", "classify", "x"]
    command += ["--bundle", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "Traceback" in done.stderr and "BundleError" in done.stderr


def test_an_image_on_stdin(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    file = coloured_folder / "Green" / "0.png"
    words = ["classify", "--bundle", colour_bundle.path, "--json", "-"]
    done = edge_all(*words, file, stdin=file.read_bytes())
    assert done.returncode == 0, done.stderr
    piped, named = [json.loads(line) for line in done.stdout.splitlines()]
    assert piped["file"] == "-" and piped["label"] == "Green"
    assert piped["probabilities"] == named["probabilities"] and named["file"] == str(file)
    empty = edge_all(*words)
    assert empty.returncode == 1 and "empty" in json.loads(empty.stdout)["error"]
    twice = edge_all(*words, "-", stdin=file.read_bytes())
    assert twice.returncode == 2 and "given twice" in twice.stderr and not twice.stdout


def test_a_terminal_as_stdin_is_refused(colour_bundle: Bundle, tmp_path: Path) -> None:
    status, shown = run_on_terminal("classify", "-", "--bundle", colour_bundle.path, cwd=tmp_path)
    assert status == 2 and "stdin, which is a terminal" in shown


def test_a_url_is_not_fetched(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    url, file = "https://example.org/a.png", coloured_folder / "Green" / "0.png"
    done = edge_all("classify", url, file, "--bundle", colour_bundle.path, "--json")
    refused, answered = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and answered["label"] == "Green"
    assert refused["file"] == url and "not fetched; download the image first" in refused["error"]
    for command, option in (("bench", "--data"), ("classify", "--bundle"), ("export", "--data"), ("study", "--data")):
        done = edge_all(command, *(["x.png"] if command == "classify" else []), option, url)
        assert done.returncode == 1 and not done.stdout
        assert len(done.stderr.splitlines()) == 1 and f"{option} {url}: a URL is not fetched" in done.stderr


def test_answers_scroll_above_the_progress(colour_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "an image's folder with a name that is longer than the terminal is wide"
    folder.mkdir()
    for i in range(40):
        colour_picture(i % 3, seed=i).save(folder / f"{i:02d}.png")
    words = ["classify", folder, "--bundle", colour_bundle.path, "--json"]
    status, shown = run_on_terminal(*words, cwd=tmp_path, columns=60, delay=0)
    assert status == 0 and "of 40 images" in shown
    answers = [json.loads(line) for line in lines(shown) if line.startswith("{")]
    assert [Path(answer["file"]).name for answer in answers] == [f"{i:02d}.png" for i in range(40)]

    status, shown = run_on_terminal(*words, cwd=tmp_path, columns=60, delay=0, stdout=tmp_path / "answers.json")
    assert status == 0 and "of 40 images" in shown and "label" not in shown
    assert len([json.loads(line) for line in (tmp_path / "answers.json").read_text().splitlines()]) == 40

    status, shown = run_on_terminal(*words, cwd=tmp_path, columns=60, delay=60)
    assert status == 0 and "Classifying" not in shown
