"""Whole slides: what is read of them, their answers, and the files that `edge-all classify SLIDE --out DIR` writes."""

from __future__ import annotations

import csv
import io
import json
import shutil
import struct
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, SIZE
from helpers_command import PROGRAM, Command
from PIL import Image

import edge_all as package
from edge_all import tiles
from edge_all.bundle import Bundle
from edge_all.errors import ImageError

pytestmark = pytest.mark.skipif(not find_spec("openslide"), reason="the extra slides is not installed")
if find_spec("openslide"):
    import duckdb
    import geojson
    import pyarrow.parquet as pq
    import tifffile
    from helpers_slides import CHANNELS, GLASS, HEIGHT, WIDTH, picture, write_slide, write_svs
    from shapely.geometry import shape

    from edge_all.slides import grid, kept, reader, scan
    from edge_all.slides.openslide_file import OpenSlideFile

UM = 7.5 / 16
"""Micrometres a pixel of the colour bundle's input."""

WANTED = {
    (column, row): CLASSES[2 - channel]
    for row, line in enumerate(CHANNELS)
    for column, channel in enumerate(line)
    if channel is not None
}
"""The label of each tile, by column and row."""


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_slide(tmp_path / "smear.tif", picture(), UM)


def table(out: Path, name: str = "smear.tif") -> list[dict[str, Any]]:
    return list(pq.read_table(out / f"{name}.parquet").to_pylist())


def labels(rows: list[dict[str, Any]], times: float = 1) -> dict[tuple[int, int], str]:
    return {(round(row["x"] / WIDTH / times), round(row["y"] / HEIGHT / times)): row["label"] for row in rows}


@pytest.mark.parametrize(("ome", "kind"), [(False, "OpenSlideFile"), (True, "TiffSlide")])
def test_any_part_of_any_level_is_read(tmp_path: Path, ome: bool, kind: str) -> None:
    pixels = picture()
    slide = reader.open_slide(write_slide(tmp_path / ("a.ome.tif" if ome else "a.tif"), pixels, UM, ome=ome))
    assert type(slide).__name__ == kind and slide.size == pixels.shape[1::-1]
    assert slide.downsamples == pytest.approx((1, 2), rel=0.01) and slide.um_per_px == pytest.approx(UM, rel=1e-3)
    box = tiles.Box(30, 50, 230, 333)
    np.testing.assert_array_equal(slide.read(0, box), pixels[50:333, 30:230])
    half = slide.read(1, box)
    assert half.shape == (142, 100, 3) and abs(half.mean() - pixels[50:333, 30:230].mean()) < 2
    beyond = slide.read(0, tiles.Box(slide.size[0] - 10, slide.size[1] - 10, slide.size[0] + 10, slide.size[1] + 10))
    np.testing.assert_array_equal(beyond[:10, :10], pixels[-10:, -10:])
    assert (beyond[10:] == 255).all() and (beyond[:, 10:] == 255).all()
    slide.close()


@pytest.mark.parametrize("kind", ["svs in YCbCr", "svs in RGB", "tiff"])
def test_tiles_are_decoded_as_openslide_decodes_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.svs"
    if kind == "tiff":
        write_slide(path, picture(2), UM / 2)
    else:
        write_svs(path, picture(2), UM / 2, transformed=kind.endswith("YCbCr"))
    slide = reader.open_slide(path)
    assert isinstance(slide, OpenSlideFile) and slide._levels and slide.um_per_px == pytest.approx(UM / 2, rel=1e-3)
    box = tiles.Box(30, 50, 230, 334)
    for level in (0, 1):
        np.testing.assert_array_equal(slide.read(level, box), slide._drawn(level, box))
    slide.close()


def test_tiles_that_openslide_knows_better_are_left_to_it(tmp_path: Path) -> None:
    """Aperio's files may leave tiles out, which OpenSlide draws from a larger level; and a page may be mistaken."""
    path = write_svs(tmp_path / "a.svs", picture(2), UM / 2, transformed=True)
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = file.pages[2].aspage().tags["TileByteCounts"]
        counts.overwrite((0, *counts.value[1:]))
    slide = reader.open_slide(path)
    assert isinstance(slide, OpenSlideFile) and slide._levels is None
    assert slide.read(1, tiles.Box(0, 0, 128, 128)).std() > 0
    slide.close()
    other = OpenSlideFile(write_slide(tmp_path / "b.tif", picture(), UM))
    assert other._tiff
    page = other._tiff.pages[0]
    page.dataoffsets, page.databytecounts = page.dataoffsets[::-1], page.databytecounts[::-1]
    assert other._levels is None
    other.close()


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
def test_a_tile_that_claims_to_be_larger_is_not_decoded(tmp_path: Path, compression: str) -> None:
    """60,000 x 60,000 pixels would be 10 GB."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(64, 64), compression=compression, ome=True)
    with tifffile.TiffFile(path) as file:
        begin = file.pages[0].dataoffsets[0]
    content, sign, after = path.read_bytes(), *((b"\xff\xc0", 5) if compression == "jpeg" else (b"\xff\x51", 6))
    at = content.index(sign, begin) + after
    claim = struct.pack(">HH" if compression == "jpeg" else ">II", 60_000, 60_000)
    path.write_bytes(content[:at] + claim + content[at + len(claim) :])
    slide = reader.open_slide(path)
    assert slide.read(0, tiles.Box(64, 64, 128, 128)).std() > 0
    with pytest.raises(ImageError, match=r"damaged in tile 0 \((it claims 60000x60000|decoding its 3600 megapixels)"):
        slide.read(0, tiles.Box(0, 0, 64, 64))
    slide.close()


def test_a_compression_without_bounds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, picture(), photometric="rgb", tile=(64, 64), compression="webp", ome=True)
    with pytest.raises(ImageError, match="its compression is WEBP; wanted JPEG"):
        reader.open_slide(path)


@pytest.mark.parametrize("form", ["--json", "--csv", None])
def test_a_slide_is_answered_tile_by_tile(
    edge_all: Command, colour_bundle: Bundle, slide: Path, tmp_path: Path, form: str | None
) -> None:
    out = tmp_path / "out"
    words = [form] if form else []
    done = edge_all("classify", slide, "--bundle", colour_bundle.path, "--out", out, *words)
    assert done.returncode == 0, done.stderr
    rows = table(out)
    assert labels(rows) == WANTED and {row["status"] for row in rows} == {"ok"}
    glass = len(CHANNELS) * len(CHANNELS[0]) - len(WANTED)
    counts = {label: list(WANTED.values()).count(label) for label in CLASSES}
    summary = json.loads((out / "smear.tif.summary.json").read_text("utf-8"))
    assert summary["tiles"]["labels"] == counts and summary["tiles"]["ok"] == len(WANTED)
    assert summary["tiles"]["glass"] + summary["tiles"]["empty"] == glass and summary["tiles"]["glass"] > 0
    assert sum(summary["shares"].values()) == pytest.approx(100, abs=0.1) and summary["level"] == 0
    assert not list(out.glob("*.partial")) and "not a medical device" in done.stderr or form
    if form == "--json":
        given = json.loads(done.stdout)
        assert given["file"] == str(slide) and given["tiles"] == summary["tiles"] and len(given["files"]) == 4
    elif form == "--csv":
        (row,) = csv.DictReader(io.StringIO(done.stdout))
        assert row["tiles"] == "99" and row["ok"] == str(len(WANTED)) and row["n_Green"] == str(counts["Green"])
    else:
        assert "of 99 tiles" in done.stdout and str(slide) in done.stdout


def test_its_files_open_elsewhere(edge_all: Command, colour_bundle: Bundle, slide: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert edge_all("classify", slide, "--bundle", colour_bundle.path, "--out", out).returncode == 0
    asked = f"SELECT label, count(*), min(p_Blue + p_Green + \"p_Réd\") FROM '{out}/smear.tif.parquet' GROUP BY label"
    for label, count, least in duckdb.execute(asked).fetchall():
        assert count == list(WANTED.values()).count(label) and least == pytest.approx(1, abs=1e-5)
    (origin,) = duckdb.execute(
        f"SELECT DISTINCT bundle_digest, engine, target, precision, version, threshold, slide, level "
        f"FROM '{out}/smear.tif.parquet'"
    ).fetchall()
    assert origin[0] == colour_bundle.digest and origin[2:4] == ("cpu", "int8") and origin[6:] == ("smear.tif", 0)

    shapes = geojson.loads((out / "smear.tif.geojson").read_text("utf-8"))
    assert shapes.is_valid and len(shapes["features"]) == len(WANTED)
    outlines = [shape(feature["geometry"]) for feature in shapes["features"]]
    assert all(outline.is_valid and outline.area == WIDTH * HEIGHT for outline in outlines)
    for feature, outline in zip(shapes["features"], outlines, strict=True):
        left, top = outline.bounds[:2]
        properties = feature["properties"]
        assert properties["classification"]["name"] == WANTED[round(left / WIDTH), round(top / HEIGHT)]
        assert properties["objectType"] == "tile" and feature["id"]
        assert set(properties["measurements"]) == {f"p {name}" for name in CLASSES}
    with Image.open(out / "smear.tif.overview.png") as drawn:
        assert drawn.width >= 640 and drawn.format == "PNG"


@pytest.mark.parametrize("times", [2, 4])
def test_the_level_nearest_to_the_bundles_scale_is_read(
    colour_bundle: Bundle, edge_all: Command, tmp_path: Path, times: int
) -> None:
    path = write_slide(tmp_path / "smear.tif", picture(times), UM / times, levels=3)
    out = tmp_path / "out"
    assert edge_all("classify", path, "--bundle", colour_bundle.path, "--out", out).returncode == 0
    rows = table(out)
    assert {row["level"] for row in rows} == {times // 2} and labels(rows, times) == WANTED


def test_the_scale_may_be_given(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    path, out = write_slide(tmp_path / "smear.tif", picture(), None), tmp_path / "out"
    words = ("classify", path, "--bundle", colour_bundle.path, "--out", out)
    done = edge_all(*words)
    assert done.returncode == 1 and "does not say how many micrometres" in done.stderr and "--scale" in done.stderr
    assert edge_all(*words, "--cell", 16).returncode == 0 and labels(table(out)) == WANTED
    done = edge_all(*words, "--scale", 5)
    assert done.returncode == 1 and "too coarse" in done.stderr


def test_the_answers_are_those_of_frames(colour_bundle: Bundle, slide: Path, tmp_path: Path) -> None:
    classifier = package.load(colour_bundle.path)
    scanned = scan.scan(slide, classifier, tmp_path, None, 2, lambda done, total: None)
    scanned.kept.close(remove=True)
    frame = tiles.answer(classifier, picture())
    for tile, answered in zip((t for t in frame.tiles if t.prediction), scanned.answers.tiles(), strict=True):
        assert tile.box == answered.box and tile.prediction and answered.prediction
        assert answered.prediction.label == tile.prediction.label
        assert answered.prediction.probabilities == pytest.approx(tile.prediction.probabilities, abs=1e-7)


def test_a_killed_run_goes_on_and_ends_with_the_same(
    colour_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed for real three times, while it is slow, and then left to end."""
    path = write_slide(tmp_path / "smear.tif", np.tile(picture(), (4, 4, 1)), UM)
    slow = (
        "import time, sys; from edge_all.slides import scan; from edge_all.cli import main; quick = scan._block\n"
        "def slower(*given): time.sleep(0.3); return quick(*given)\n"
        "scan._block = slower; main()"
    )
    out = tmp_path / "out"
    words = ["classify", str(path), "--bundle", str(colour_bundle.path), "--out", str(out), "--target", "cpu"]
    kept_file, sizes = out / "smear.tif.partial", []
    for _ in range(3):
        before = kept_file.stat().st_size if kept_file.exists() else 0
        with subprocess.Popen([sys.executable, "-c", slow, *words], stderr=subprocess.PIPE) as running:
            end = time.monotonic() + 60
            while time.monotonic() < end and (not kept_file.exists() or kept_file.stat().st_size < before + 3000):
                time.sleep(0.02)
            running.kill()
        sizes.append(kept_file.stat().st_size)
        with kept_file.open("ab") as file:
            file.write(b"[7,[[1,")  # what a kill in the middle of a line leaves
    assert sizes == sorted(set(sizes)) and not (out / "smear.tif.parquet").exists()
    done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "tiles were answered before; going on from there" in done.stderr, done.stderr
    whole = tmp_path / "whole"
    words[words.index(str(out))] = str(whole)
    assert subprocess.run([PROGRAM, *words], capture_output=True, timeout=120).returncode == 0
    for ending in ("parquet", "geojson", "overview.png"):
        assert (out / f"smear.tif.{ending}").read_bytes() == (whole / f"smear.tif.{ending}").read_bytes(), ending
    assert not kept_file.exists() and len(table(out)) == 16 * len(WANTED)


def test_what_is_kept_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "a.partial"
    first = kept.Kept(file, {"slide": "1"})
    first.add(3, [kept.Answer(0, 1, None)])
    first.close()
    again = kept.Kept(file, {"slide": "1"})
    assert list(again.answers(CLASSES)) == [(3, [kept.Answer(0, 1, None)])]
    again.close()
    file.write_bytes(file.read_bytes() + bytes(100) + b"\n[4,[]]\n")  # after a power cut
    after = kept.Kept(file, {"slide": "1"})
    assert [number for number, _ in after.answers(CLASSES)] == [3]
    after.close()
    other = kept.Kept(file, {"slide": "2"})
    assert not list(other.answers(CLASSES))
    other.close(remove=True)
    assert not file.exists()


def test_a_bad_slide_is_refused_and_the_others_are_answered(
    edge_all: Command, colour_bundle: Bundle, slide: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(slide, folder / "b.tif")
    content = slide.read_bytes()
    (folder / "cut.tif").write_bytes(content[: len(content) // 2])
    (folder / "noise.svs").write_bytes(bytes(range(256)) * 40)
    (folder / "empty.ndpi").touch()
    (folder / "notes.txt").write_text("x")
    out = tmp_path / "out"
    done = edge_all("classify", folder, "--bundle", colour_bundle.path, "--out", out, "--json")
    assert done.returncode == 1 and "not looked at (1 .txt)" in done.stderr
    answers = {Path(line["file"]).name: line for line in map(json.loads, done.stdout.splitlines())}
    assert list(answers) == ["b.tif", "cut.tif", "empty.ndpi", "noise.svs"]
    assert "error" not in answers["b.tif"] and labels(table(out, "b.tif")) == WANTED
    for name in ("cut.tif", "empty.ndpi", "noise.svs"):
        assert "error" in answers[name] and not list(out.glob(f"{name}.parquet")), name


def _with_tag(path: Path, tag: int, value: int) -> Path:
    """A TIFF file in which the first page claims another value."""
    with tifffile.TiffFile(path) as file:
        at = file.pages.first.tags[tag].valueoffset
        order = file.byteorder
    content = bytearray(path.read_bytes())
    content[at : at + 4] = struct.pack(f"{order}I", value)
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("tag", "value"),
    [(256, 2**31 - 1), (257, 2**31 - 1), (256, 0), (322, 2**16), (322, 2**31 - 16), (323, 2**16), (322, 0)],
)
def test_a_slide_that_claims_too_much_is_refused_at_once(slide: Path, tag: int, value: int, tmp_path: Path) -> None:
    path = _with_tag(slide, tag, value)
    code = (
        "import resource, sys, time\n"
        "from pathlib import Path\n"
        "import edge_all\n"
        "from edge_all.errors import EdgeAllError\n"
        "from edge_all.slides.scan import scan\n"
        "classifier, begun = edge_all.load(target='cpu'), time.perf_counter()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    scan(Path(sys.argv[1]), classifier, Path(sys.argv[2]), None, 1, lambda done, total: None)\n"
        "except EdgeAllError as error:\n"
        "    more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "    print(time.perf_counter() - begun, more // 1024, str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout, done.stderr
    seconds, more, error = done.stdout.split(maxsplit=2)
    assert float(seconds) < 10 and int(more) < 600 and "\n" not in error.strip(), done.stdout


def test_glass_is_not_looked_at_and_pale_cells_are(colour_bundle: Bundle, tmp_path: Path) -> None:
    pixels = np.full((10 * HEIGHT, 10 * WIDTH, 3), GLASS, np.uint8)
    pixels[HEIGHT : 2 * HEIGHT, WIDTH : 2 * WIDTH] = (232, 214, 228)  # a thin film, in stain
    pixels[5 * HEIGHT + 20 : 5 * HEIGHT + 30, 7 * WIDTH + 20 : 7 * WIDTH + 30] = 120  # one cell
    slide = reader.open_slide(write_slide(tmp_path / "a.tif", pixels, UM))
    seen = grid.overview(slide)
    assert seen is not None
    there = np.argwhere(~grid.plan(slide, colour_bundle, None, seen).glass).tolist()
    assert [1, 1] in there and [5, 7] in there and len(there) <= 12
    slide.close()


def test_a_slide_without_small_levels_has_an_overview(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (300, 2600, 3), dtype=np.uint8)
    for ome in (False, True):
        slide = reader.open_slide(write_slide(tmp_path / "a.ome.tif", pixels, UM, levels=1, ome=ome))
        seen = grid.overview(slide)
        assert seen is not None and seen.shape == (236, grid.OVERVIEW, 3)
        wanted = np.asarray(Image.fromarray(pixels).resize((grid.OVERVIEW, 236), Image.Resampling.BOX))
        assert np.abs(seen.astype(int) - wanted).mean() < 2
        slide.close()


def test_words_that_do_not_fit(edge_all: Command, slide: Path, colour_bundle: Bundle, tmp_path: Path) -> None:
    done = edge_all("classify", slide, "--out", slide.parent)
    assert done.returncode == 2 and "wanted another folder" in done.stderr
    with pytest.raises(ImageError, match="there is no such file"):
        reader.open_slide(tmp_path / "nothing.svs")
    small = write_slide(tmp_path / "small.tif", picture()[:40, :40], UM, levels=1, tile=16)
    done = edge_all("classify", small, "--bundle", colour_bundle.path, "--out", tmp_path / "o")
    assert done.returncode == 1 and "less than a field" in done.stderr


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, edge_all: Command, slide: Path, tmp_path: Path) -> None:
    monkeypatch.setattr(reader, "find_spec", lambda name: None)
    done = edge_all("classify", slide, "--out", tmp_path / "o")
    assert done.returncode == 1 and "pip install" in done.stderr and "slides" in done.stderr


assert SIZE == (48, 64), "the tiles of these slides are those of the colour bundle"
