"""Frames larger than a field: tiles, their answers, and `edge-all classify --tile`."""

from __future__ import annotations

import csv
import io
import json
import math
import tracemalloc
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, SIZE, colour_picture, encoded
from helpers_command import Command
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import edge_all as package
from edge_all import image, tile_output, tiles
from edge_all.bundle import Bundle
from edge_all.errors import ImageError

HEIGHT, WIDTH = SIZE
CHANNELS = ((0, 1, 2, None), (2, 2, 0, 1), (None, 0, 0, 0))
"""The strongest channel of each tile of `mosaic`; None is an empty tile."""


def mosaic() -> Image.Image:
    """A frame of 3 x 4 tiles."""
    frame = Image.new("RGB", (4 * WIDTH, 3 * HEIGHT), (240, 238, 240))
    for row, line in enumerate(CHANNELS):
        for column, channel in enumerate(line):
            if channel is not None:
                frame.paste(colour_picture(channel, seed=4 * row + column), (WIDTH * column, HEIGHT * row))
    return frame


def labels(frame: tiles.Frame) -> list[str]:
    return [tile_output.name(tile) for tile in frame.tiles]


WANTED = [CLASSES[2 - k] if k is not None else "empty" for line in CHANNELS for k in line]


@pytest.mark.parametrize("threads", [1, 3])
def test_each_tile_is_answered(colour_bundle: Bundle, threads: int) -> None:
    classifier = package.load(colour_bundle.path)
    frame = tiles.answer(classifier, np.asarray(mosaic()), threads=threads)
    assert labels(frame) == WANTED
    assert frame.statuses == {"ok": 10, "empty": 2} and frame.labels == {"Blue": 3, "Green": 2, "Réd": 5}
    assert frame.tile == (WIDTH, HEIGHT) and frame.um_per_px == pytest.approx(7.5 / 16)


@pytest.mark.parametrize("times", [2, 3.5])
def test_tiles_have_the_scale_of_the_bundle(colour_bundle: Bundle, times: float) -> None:
    classifier = package.load(colour_bundle.path)
    large = mosaic().resize((round(4 * WIDTH * times), round(3 * HEIGHT * times)), Image.Resampling.NEAREST)
    frame = tiles.answer(classifier, np.asarray(large), um_per_px=7.5 / 16 / times)
    assert labels(frame) == WANTED and frame.tile == (WIDTH * times, HEIGHT * times)
    stated = Bundle(colour_bundle.path, {**colour_bundle.record, "scale": 0.25})
    classifier.bundle = stated
    assert tiles.answer(classifier, np.asarray(mosaic())).um_per_px == 0.25
    assert tiles.answer(classifier, np.asarray(mosaic()), 0.125).tile == (2 * WIDTH, 2 * HEIGHT)


@settings(max_examples=30, deadline=None)
@given(st.tuples(st.integers(1, 999), st.integers(1, 999)), st.tuples(st.integers(9, 400), st.integers(9, 400)))
def test_tiles_cover_a_frame(size: tuple[int, int], tile: tuple[int, int]) -> None:
    try:
        boxes = tiles.cut(size, tile)
    except ImageError:
        assert any(side < 0.8 * wanted for side, wanted in zip(size, tile, strict=True))
        return
    for axis in (0, 1):
        spans = sorted({(box[axis], box[axis + 2]) for box in boxes})
        assert spans[0][0] >= 0 and spans[-1][1] <= size[axis]
        assert {end - begin for begin, end in spans} == {min(tile[axis], size[axis])}
        seen = np.zeros(size[axis], bool)
        for begin, end in spans:
            seen[begin:end] = True
        assert (~seen).sum() <= 0.05 * tile[axis] + 1
    assert len(set(boxes)) == len(boxes)


def test_a_frame_that_is_less_than_a_field_is_refused(colour_bundle: Bundle) -> None:
    classifier = package.load(colour_bundle.path)
    with pytest.raises(ImageError, match="64x48 pixels are less than a field, which has 128x96"):
        tiles.answer(classifier, np.asarray(colour_picture(0)), um_per_px=7.5 / 32)


def test_a_frame_without_the_detail_is_refused(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    mosaic().save(tmp_path / "frame.png")
    done = edge_all("classify", "frame.png", "--tile", "--cell", 7, "--bundle", colour_bundle.path)
    assert done.returncode == 1 and "a red cell is 7.0 pixels across" in done.stderr and not done.stdout
    assert len(done.stderr.splitlines()) == 1
    done = edge_all("classify", "frame.png", "--tile", "--cell", 8, "--bundle", colour_bundle.path)
    assert done.returncode == 0 and "of 48 tiles" in done.stdout


def test_what_is_empty() -> None:
    rng = np.random.default_rng(0)
    blank = np.full((224, 224, 3), 235.0)
    shaded = blank - np.linspace(0, 30, 224)[:, None, None] + rng.normal(0, 4, blank.shape)
    assert tiles.is_empty(blank.astype(np.uint8)) and tiles.is_empty(shaded.clip(0, 255).astype(np.uint8))
    rows, columns = np.mgrid[:224, :224]
    one_blast = shaded.copy()
    one_blast[(rows - 100) ** 2 + (columns - 60) ** 2 < 14**2] -= (60, 110, 40)
    assert not tiles.is_empty(one_blast.clip(0, 255).astype(np.uint8))


def test_only_tiles_in_hand_take_memory(colour_bundle: Bundle) -> None:
    classifier = package.load(colour_bundle.path)
    pixels = np.tile(np.asarray(mosaic()), (8, 8, 1))
    tiles.answer(classifier, pixels[: 2 * HEIGHT], threads=2)
    tracemalloc.start()
    try:
        tiles.answer(classifier, pixels, threads=2)
        assert tracemalloc.get_traced_memory()[1] < pixels.nbytes / 2
    finally:
        tracemalloc.stop()


def geojson_problems(text: str, size: tuple[int, int]) -> list[str]:
    """What of a text is not as RFC 7946 and QuPath want it."""

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    content: dict[str, Any] = json.loads(text, parse_constant=constant)
    found = [] if content["type"] == "FeatureCollection" and "crs" not in content else ["no collection"]
    ids = [feature["id"] for feature in content["features"]]
    found += [] if len(set(ids)) == len(ids) else ["an id is there twice"]
    for feature in content["features"]:
        if feature["type"] != "Feature" or feature["geometry"]["type"] != "Polygon":
            found.append("no polygon")
        (ring,) = feature["geometry"]["coordinates"]
        if len(ring) < 4 or ring[0] != ring[-1]:
            found.append("a ring that is not closed")
        area = sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(ring, ring[1:], strict=False)) / 2
        if area <= 0:
            found.append("a ring that is not counterclockwise")
        if not all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in ring):
            found.append("outside the frame")
        properties = feature["properties"]
        classification = properties["classification"]
        if not classification["name"] or not all(0 <= part <= 255 for part in classification["color"]):
            found.append("no classification")
        if not all(math.isfinite(value) for value in properties["measurements"].values()):
            found.append("no measurement")
        if properties["objectType"] not in ("annotation", "detection", "tile"):
            found.append("no object of QuPath")
    return found


def test_the_geojson_is_as_its_rules_say(colour_bundle: Bundle) -> None:
    classifier = package.load(colour_bundle.path)
    frame = tiles.answer(classifier, np.asarray(mosaic()))
    text = tile_output.geojson(frame, CLASSES)
    assert geojson_problems(text, frame.size) == []
    features = json.loads(text)["features"]
    names = [feature["properties"]["classification"]["name"] for feature in features]
    assert names == [name for name in WANTED if name != "empty"]
    assert set(features[0]["properties"]["measurements"]) == {f"p {name}" for name in CLASSES}
    assert features[0]["geometry"]["coordinates"][0][2] == [WIDTH, HEIGHT]
    if find_spec("shapely"):
        from shapely.geometry import shape

        assert all(shape(feature["geometry"]).is_valid for feature in features)


def test_no_wrong_geojson_passes(colour_bundle: Bundle) -> None:
    frame = tiles.answer(package.load(colour_bundle.path), np.asarray(mosaic()))
    content = json.loads(tile_output.geojson(frame, CLASSES))
    content["features"][0]["geometry"]["coordinates"][0].reverse()
    content["features"][1]["geometry"]["coordinates"][0].pop()
    assert geojson_problems(json.dumps(content), frame.size) == [
        "a ring that is not counterclockwise",
        "a ring that is not closed",
    ]


def test_what_is_not_sure_has_a_name_of_its_own(colour_bundle: Bundle) -> None:
    frame = tiles.answer(package.load(colour_bundle.path), np.asarray(mosaic()))
    first = frame.tiles[0].prediction
    assert first
    referred = replace(first, status="refer")
    strange = replace(first, status="unfamiliar", label=None)
    given = [replace(frame.tiles[0], prediction=answer) for answer in (first, referred, strange, None)]
    assert [tile_output.name(tile) for tile in given] == [first.label, f"{first.label}?", "unfamiliar", "empty"]
    frame = replace(frame, tiles=tuple(given))
    assert frame.labels == {first.label: 1}, "only ok counts for a class"
    assert frame.statuses == {"ok": 1, "refer": 1, "unfamiliar": 1, "empty": 1}
    tile_output.draw(frame, np.asarray(mosaic()), CLASSES)


def test_the_picture_of_the_tiles(colour_bundle: Bundle) -> None:
    pixels = np.asarray(mosaic())
    frame = tiles.answer(package.load(colour_bundle.path), pixels)
    with Image.open(io.BytesIO(tile_output.draw(frame, pixels, CLASSES))) as opened:
        drawn = np.asarray(opened.convert("RGB"))
    assert drawn.shape[1] == pixels.shape[1] and drawn.shape[0] > pixels.shape[0]
    assert tuple(drawn[HEIGHT - 3, WIDTH // 2]) == (0, 158, 115), "the third class's colour, at the first tile's edge"
    assert (drawn[2 * HEIGHT + 4 : 3 * HEIGHT - 4, 4 : WIDTH - 4] == (240, 238, 240)).all(), "nothing on an empty tile"


@pytest.mark.parametrize("size", [(1600, 1200), (64, 48), (3000, 50)])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_the_size_of_an_image_is_known_after_it_was_squeezed(size: tuple[int, int], form: str) -> None:
    out = np.empty((*SIZE, 3), np.uint8)
    data = encoded(colour_picture(1, size=size[::-1]), form)
    assert image.decode_into(data, out) == size
    np.testing.assert_array_equal(out, image.decode(data, SIZE))
    assert image.decode_whole(data).shape == (size[1], size[0], 3)


def test_a_whole_frame_is_decoded_in_bands() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2000, 1500, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(pixels), "PNG", compress_level=0)
    np.testing.assert_array_equal(image.decode_whole(data), pixels)


def test_a_frame_that_is_squeezed_is_told(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for i, times in enumerate((1, 3, 4, 9)):
        colour_picture(0, size=(HEIGHT * times, WIDTH * times)).save(tmp_path / "frames" / f"{i}.png")
    done = edge_all("classify", "frames", "--bundle", colour_bundle.path, "--json")
    assert done.returncode == 0
    assert done.stderr.count("far larger than a field") == 1 and "2 frames are far larger" in done.stderr
    assert all(set(json.loads(line)) >= {"label", "status", "ms"} for line in done.stdout.splitlines())
    done = edge_all("classify", "frames/1.png", "--bundle", colour_bundle.path)
    assert "far larger" not in done.stderr


def test_frames_by_the_command(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        mosaic().resize((8 * WIDTH, 6 * HEIGHT), Image.Resampling.NEAREST).save(tmp_path / folder / "frame.png")
    (tmp_path / "a" / "bad.png").write_bytes(b"no image")
    words = ["classify", "a", "b", "--tile", "--cell", 32, "--bundle", colour_bundle.path]
    done = edge_all(*words, "--json", "--out", "out")
    assert done.returncode == 1
    bad, first, second = [json.loads(line) for line in done.stdout.splitlines()]
    assert set(bad) == {"file", "error"}
    assert first["tiles"] == {
        **{"all": 12, "ok": 10, "refer": 0, "unfamiliar": 0, "empty": 2},
        "labels": {"Blue": 3, "Green": 2, "Réd": 5},
    }
    assert first["tile_width"] == 2 * WIDTH and first["um_per_px"] == pytest.approx(7.5 / 32)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("frame.png-2.geojson", "frame.png-2.tiles.png", "frame.png.geojson", "frame.png.tiles.png"),
    ]
    assert [Path(name).name for name in second["files"]] == ["frame.png-2.tiles.png", "frame.png-2.geojson"]
    text = (tmp_path / "out" / "frame.png.geojson").read_text("utf-8")
    assert geojson_problems(text, (8 * WIDTH, 6 * HEIGHT)) == []
    assert "20 ok, 0 refer, 0 unfamiliar, 4 empty" in done.stderr and "2 answered, 1 refused" in done.stderr

    rows = list(csv.DictReader(io.StringIO(edge_all(*words, "--csv").stdout)))
    assert [row["n_Réd"] for row in rows] == ["", "5", "5"] and rows[0]["error"] and rows[1]["tiles"] == "12"
    table = edge_all(*words)
    assert "Blue 3, Green 2, Réd 5, empty 2 of 12 tiles" in table.stdout and "not a medical device" in table.stderr
    assert "no scale was given" not in table.stderr and "does not state its scale" in table.stderr


def test_without_a_scale_what_is_assumed_is_told(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    done = edge_all("classify", "-", "--tile", "--bundle", colour_bundle.path, stdin=encoded(mosaic(), "PNG"))
    assert done.returncode == 0 and "of 12 tiles" in done.stdout
    assert "a red cell is taken to be 16 pixels across" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--scale", "0.5"], "--scale is for frames that are cut into tiles: add --tile"),
        (["--tile", "--scale", "0.5", "--cell", "16"], "give one of them"),
        (["--tile", "--scale", "0"], "0"),
        (["--tile", "--scale", "nan"], "want a number"),
        (["--tile", "--cell", "inf"], "want a number"),
        (["--tile", "--out", "frames"], "be taken for frames"),
        (["--tile", "--out", "frames/tiles"], "be taken for frames"),
        (["--tile", "--out", "frame.png"], "is a file"),
    ],
)
def test_options_that_contradict_each_other(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path, words: list[str], said: str
) -> None:
    (tmp_path / "frames").mkdir()
    mosaic().save(tmp_path / "frame.png")
    done = edge_all("classify", "frames", *words, "--bundle", colour_bundle.path)
    assert done.returncode == 2 and said in done.stderr and not done.stdout
