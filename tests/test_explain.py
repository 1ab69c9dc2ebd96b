"""`edge-all explain`: the map of what moves an answer, and its picture."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from helpers_bundle import SIZE, colour_picture, encoded
from helpers_command import Command
from PIL import Image

import edge_all as package
from edge_all import explain, overlay, parallel
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier
from edge_all.targets import Answers, EngineOptions, open_engine

ROW, COLUMN = 4, 9
"""The patch that makes the picture of `blue_spot` blue."""


def blue_spot() -> Image.Image:
    """Grey, with a blue spot that fills one patch."""
    pixels = np.full((*SIZE, 3), 120, np.uint8)
    rows, columns = (
        slice(round(side * k / 14), round(side * (k + 1) / 14)) for side, k in zip(SIZE, (ROW, COLUMN), strict=True)
    )
    pixels[rows, columns] = (0, 0, 255)
    return Image.fromarray(pixels)


@pytest.mark.engine
@pytest.mark.parametrize("target", ["cpu", "openvino"])
@pytest.mark.parametrize("streams", [1, 2])
def test_the_hottest_patch_is_what_decides(colour_bundle: Bundle, target: str, streams: int) -> None:
    engine = open_engine(colour_bundle.read("model.fp32.onnx"), EngineOptions(target, streams=streams))
    classifier = Classifier(colour_bundle, "cpu", "fp32", engine)
    found = explain.explain(classifier, encoded(blue_spot(), "PNG"), threads=3)
    assert found.prediction.label == "Blue"
    assert found.map.shape == (14, 14) and found.map.dtype == np.float32
    assert tuple(map(int, np.unravel_index(found.map.argmax(), found.map.shape))) == (ROW, COLUMN)
    assert 0 < found.map.max() < 1
    alone = explain.explain(classifier, encoded(blue_spot(), "PNG"), threads=1)
    np.testing.assert_allclose(found.map, alone.map, atol=1e-7)


def test_a_map_is_what_covering_each_patch_costs(colour_bundle: Bundle) -> None:
    classifier = package.load(colour_bundle.path)
    pixels = np.asarray(colour_picture(1, seed=3))
    fill = explain.blurred(pixels)
    found = explain.occlude(classifier, pixels, fill, top=1, cells=4)
    whole = classifier.probabilities(pixels[None])[0, 1]
    for row in range(4):
        for column in range(4):
            covered = pixels.copy()
            patch = slice(12 * row, 12 * row + 12), slice(16 * column, 16 * column + 16)
            covered[patch] = fill[patch]
            left = classifier.probabilities(covered[None])[0, 1]
            assert found[row, column] == pytest.approx(whole - left, abs=2e-6)


def test_a_gpu_answers_in_batches(colour_bundle: Bundle) -> None:
    engine = open_engine(colour_bundle.read("model.fp32.onnx"), EngineOptions())
    sizes = []

    class Counted:
        description, cached = "a GPU", None

        def run(self, images: np.ndarray) -> Answers:
            sizes.append(len(images))
            return engine.run(images)

    data = encoded(blue_spot(), "PNG")
    found = explain.explain(Classifier(colour_bundle, "gpu", "fp32", cast(Any, Counted())), data)
    assert max(sizes) > 8
    wanted = explain.explain(Classifier(colour_bundle, "cpu", "fp32", engine), data)
    np.testing.assert_allclose(found.map, wanted.map, atol=1e-6)


def test_small_changes_of_a_sure_answer_are_not_lost(colour_bundle: Bundle) -> None:
    """Near 1 a float32 has steps of 6e-8; the others' share has not."""

    class Sure:
        description, cached = "an engine", None

        def run(self, images: np.ndarray) -> Answers:
            other = 1e-10 * (1 + (images.reshape(len(images), -1) != 7).any(axis=1))
            return Answers(np.stack([1 - other, other, 0 * other], axis=1).astype(np.float32), None)

    classifier = Classifier(colour_bundle, "cpu", "fp32", cast(Any, Sure()))
    pixels = np.full((*SIZE, 3), 7, np.uint8)
    found = explain.occlude(classifier, pixels, pixels + 1, top=0)
    np.testing.assert_allclose(found, 1e-10, rtol=1e-3)


def test_what_is_unfamiliar_is_said(colour_bundle: Bundle) -> None:
    class Strange:
        description, cached = "an engine", None

        def run(self, images: np.ndarray) -> Answers:
            return Answers(np.array([[0.2, 0.7, 0.1]], np.float32), np.array([3.0], np.float32))

    found = explain.explain(Classifier(colour_bundle, "cpu", "int8", cast(Any, Strange())), encoded(blue_spot(), "PNG"))
    assert found.prediction.label is None and not found.map.any()
    assert explain.UNFAMILIAR in found.notes and explain.MEANING in found.notes
    assert any("No patch alone decides" in note for note in found.notes)


def test_the_palette_rises_in_brightness() -> None:
    colours = overlay.palette(np.linspace(0, 1, 100)).astype(float)
    brightness = colours @ (0.299, 0.587, 0.114)
    assert (np.diff(brightness) > -0.5).all() and brightness[0] < 5 and brightness[-1] > 230


@pytest.mark.parametrize("size", [(48, 64), (64, 4000), (3000, 2000)])
def test_the_overlay_is_a_picture_of_fair_size(colour_bundle: Bundle, size: tuple[int, int]) -> None:
    classifier = package.load(colour_bundle.path)
    data = encoded(blue_spot().resize(size[::-1]), "PNG")
    with Image.open(io.BytesIO(explain.overlay_png(classifier, data))) as drawn:
        assert drawn.format == "PNG" and drawn.mode == "RGB"
        assert max(drawn.size) <= 1300
        pixels = np.asarray(drawn)
    assert (pixels.max(axis=2) != pixels.min(axis=2)).any(), "no colour"


def test_the_heat_is_where_the_map_is_hot() -> None:
    heat = np.zeros((14, 14), np.float32)
    heat[2, 3], heat[10, 10] = 0.5, -0.5
    picture = np.full((140, 140, 3), 200, np.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(overlay.heat(picture, heat, "a", "points"))))
    side = 640 // 14
    coloured = (pixels.max(axis=2).astype(int) - pixels.min(axis=2))[:640, :640] > 20
    rows, columns = np.nonzero(coloured)
    assert abs(rows.mean() - 2.5 * side) < 3 and abs(columns.mean() - 3.5 * side) < 3
    assert (np.ptp(rows) < side + 2) and (np.ptp(columns) < side + 2)


def test_the_command(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    blue_spot().save(tmp_path / "spot.png")
    (tmp_path / "map.png").write_bytes(b"old")
    done = edge_all("explain", "spot.png", "-o", "map.png", "--bundle", colour_bundle.path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Blue ") and "not where a disease is" in done.stderr
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
    done = edge_all("explain", "spot.png", "-o", "map.png", "--bundle", colour_bundle.path, "--json", "--threads", 2)
    answer = json.loads(done.stdout)
    assert answer["label"] == answer["top"] == "Blue" and answer["status"] == "ok"
    assert np.argmax(answer["map"]) == 14 * ROW + COLUMN


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("spot.png", "is the image itself"),
        ("x.jpg", "ends in .png"),
        ("d.png", "is a folder"),
        ("no/x.png", "no folder"),
    ],
)
def test_nothing_else_is_written_to(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path, out: str, said: str
) -> None:
    blue_spot().save(tmp_path / "spot.png")
    (tmp_path / "d.png").mkdir()
    before = (tmp_path / "spot.png").read_bytes()
    done = edge_all("explain", "spot.png", "-o", out, "--bundle", colour_bundle.path)
    assert done.returncode in (1, 2) and said in done.stderr and not done.stdout
    assert (tmp_path / "spot.png").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"spot.png", "d.png", "colour"}


def test_what_is_no_image_is_one_line(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no image")
    done = edge_all("explain", "x.jpg", "-o", "map.png", "--bundle", colour_bundle.path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and not (tmp_path / "map.png").exists()


def test_no_work_is_begun_after_a_failure() -> None:
    begun = []

    def work(k: int) -> None:
        begun.append(k)
        raise ValueError(f"thing {k}")

    for threads in (1, 3):
        begun.clear()
        with pytest.raises(ValueError, match="thing 0"):
            parallel.each(work, range(10_000), threads)
        assert len(begun) < 10_000
    assert parallel.each(lambda k: k * k, range(50), 3) == [k * k for k in range(50)]
