"""From what the user named to image files: nothing is left out in silence, and nothing is answered twice."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers_bundle import colour_picture, write_colour_bundle
from helpers_command import Command
from PIL import Image

from edge_all import bench, image, inputs
from edge_all.bundle import Bundle
from edge_all.errors import DataError
from edge_all.export import dataset
from edge_all.inputs import Found, find

posix = pytest.mark.skipif(sys.platform == "win32", reason="such files are POSIX")


def put(root: Path, *names: str) -> None:
    """Write small files; what is in them does not matter to a search."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def shown(found: Found, root: Path) -> list[list[str]]:
    """The paths of each input, relative to `root`; what cannot be read has a ``!`` before it."""
    return [["!" * bool(error) + path.relative_to(root).as_posix() for path, error in items] for items in found.items]


def test_a_folder_is_searched_in_order_and_a_file_may_have_any_name(tmp_path: Path) -> None:
    put(tmp_path, "b/2.png", "a/1.JPG", "a/notes.txt", ".hidden/3.png", "c.tiff", "a/.4.png", "a/5.jfif", "a/6.jpe")
    put(tmp_path, "a/7.pnm", "b/x.czi", "b/y.CZI", "b/README")
    found = find([tmp_path, tmp_path / "a/notes.txt"])
    assert shown(found, tmp_path) == [
        ["c.tiff", "a/1.JPG", "a/5.jfif", "a/6.jpe", "a/7.pnm", "b/2.png"],
        ["a/notes.txt"],
    ]
    assert found.not_looked_at == {".txt": 1, ".czi": 2, "no ending": 1, inputs.HIDDEN: 2}
    assert inputs.kinds(found.not_looked_at) == "2 .czi, 2 hidden, 1 .txt, 1 no ending"
    many = Counter({f".{k}": 10 - k for k in range(9)})
    assert inputs.kinds(many) == "10 .0, 9 .1, 8 .2, 7 .3, 6 .4, 14 of other kinds"


def test_every_ending_that_pillow_knows_for_the_formats_counts() -> None:
    known = {ending for ending, form in Image.registered_extensions().items() if form in image.FORMATS}
    assert {".jpg", ".jfif", ".pnm"} <= known
    assert known <= inputs.SUFFIXES


def test_no_image_twice_unless_it_was_named_twice(tmp_path: Path) -> None:
    put(tmp_path, "d/1.png", "d/sub/2.png", "d/sub/3.png")
    d = tmp_path / "d"
    assert shown(find([d, d]), tmp_path) == [["d/1.png", "d/sub/2.png", "d/sub/3.png"], []]
    assert shown(find([d, d / "sub"]), tmp_path)[1] == []
    assert shown(find([d / "sub", d]), tmp_path) == [["d/sub/2.png", "d/sub/3.png"], ["d/1.png"]]
    assert shown(find([d / "1.png", d, d / "1.png"]), tmp_path) == [
        ["d/1.png"],
        ["d/sub/2.png", "d/sub/3.png"],
        ["d/1.png"],
    ]
    assert shown(find([d / "sub/2.png", d / "sub/3.png", d / "sub"]), tmp_path)[2] == []


def test_a_folder_without_an_image_is_reported(tmp_path: Path) -> None:
    put(tmp_path, "full/1.png", "slides/a.czi")
    (tmp_path / "empty/deep").mkdir(parents=True)
    found = find([tmp_path / "empty", tmp_path / "full", tmp_path / "slides"])
    assert shown(found, tmp_path) == [["!empty"], ["full/1.png"], ["!slides"]]
    assert {items[0].error for items in found.items} == {"", inputs.EMPTY}
    assert shown(find([tmp_path]), tmp_path) == [["full/1.png"]]


@posix
def test_links_are_followed_once_and_never_upwards(tmp_path: Path) -> None:
    put(tmp_path, "real/1.png", "data/own/2.png")
    data = tmp_path / "data"
    (data / "class").symlink_to(tmp_path / "real")
    (data / "again").symlink_to(tmp_path / "real")
    (data / "own/self").symlink_to(data)
    (data / "own/up").symlink_to(tmp_path)
    (data / "a.png").symlink_to(tmp_path / "real/1.png")
    found = find([data])
    assert shown(found, tmp_path) == [["data/a.png", "data/again/1.png", "data/own/2.png"]]
    assert found.not_looked_at == {inputs.UPWARDS: 1}


@posix
def test_what_is_no_file_is_reported_and_never_opened(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    put(tmp_path, "1.png", "2.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    with socket.socket(socket.AF_UNIX) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # a socket's path must be short
        server.bind("socket.png")
        (items,) = find([tmp_path]).items
    errors = {path.name: error for path, error in items if error}
    assert [path.name for path, error in items if not error] == ["1.png", "2.png"]
    assert errors["pipe.png"].startswith("a named pipe") and errors["socket.png"].startswith("a socket")
    assert errors["zero.png"].startswith("a device") and errors["gone.png"].startswith("a link that leads nowhere")
    assert errors["circle.png"].startswith("cannot be read") and len(errors) == 5


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let the folders of this name be unreadable, as they are for anyone but the superuser."""
    scandir = os.scandir

    def refused(path: Path) -> object:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)


def test_a_folder_that_cannot_be_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "locked/2.png", "z/3.png")
    forbid(monkeypatch, "locked")
    found = find([tmp_path])
    assert shown(found, tmp_path) == [["a/1.png", "!locked", "z/3.png"]]
    assert found.items[0][1].error == "cannot be read: Permission denied"
    with pytest.raises(DataError, match="locked: cannot be read: Permission denied"):
        inputs.images_below(tmp_path)


def test_everything_is_answered_or_reported(
    edge_all: Command, colour_bundle: Bundle, coloured_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(coloured_folder, "Blue/a.czi", "Blue/b.czi", "notes.txt", "locked/x.png")
    (tmp_path / "empty").mkdir()
    forbid(monkeypatch, "locked")
    words = ("classify", "--bundle", colour_bundle.path, "", "n" * 300, tmp_path / "empty", coloured_folder)
    done = edge_all(*words, "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and len(rows) == 16
    assert [row["file"] for row in rows[:3]] == ["", "n" * 300, str(tmp_path / "empty")]
    assert "an empty name" in rows[0]["error"] and "cannot be read" in rows[1]["error"]
    assert rows[2]["error"] == inputs.EMPTY and rows[15]["error"].startswith("cannot be read")
    assert all("label" in row for row in rows[3:15])
    last = done.stderr.splitlines()
    assert last == [
        "edge-all: 12 ok, 0 refer, 0 unfamiliar",
        "edge-all: 12 answered, 4 refused, 3 not looked at (2 .czi, 1 .txt)",
    ]
    table = list(csv.DictReader(io.StringIO(edge_all(*words, "--csv").stdout)))
    assert len(table) == 16 and [bool(row["error"]) for row in table].count(True) == 4
    for_people = edge_all(*words)
    assert f"{tmp_path / 'empty'}: no image there" in for_people.stderr and "4 refused" in for_people.stderr


def test_files_beside_images_are_no_failure(edge_all: Command, colour_bundle: Bundle, coloured_folder: Path) -> None:
    put(coloured_folder, "slide.svs")
    done = edge_all("classify", coloured_folder, "--bundle", colour_bundle.path, "--csv")
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "edge-all: 12 answered, 0 refused, 1 not looked at (1 .svs)"


def test_an_empty_option_is_no_folder(edge_all: Command, colour_bundle: Bundle) -> None:
    for words in (["bench", "--data"], ["classify", "x.png", "--bundle"], ["export", "--data"], ["study", "--out"]):
        done = edge_all(*words, "")
        assert done.returncode == 2 and f"'{words[-1]}': an empty path" in done.stderr


@posix
def test_a_data_set_is_searched_by_the_same_rule(tmp_path: Path) -> None:
    for k, name in enumerate(("Blue", "Green")):
        (tmp_path / "real" / name).mkdir(parents=True)
        for i in range(5):
            colour_picture(k, seed=i).save(tmp_path / "real" / name / f"{i}.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/Blue").symlink_to(tmp_path / "real/Blue")
    (tmp_path / "data/Green").mkdir()
    (tmp_path / "data/Green/part").symlink_to(tmp_path / "real/Green")
    read = dataset.read(tmp_path / "data")
    assert read.counts == {"Blue": 5, "Green": 5} and read.files[5] == "Green/part/0.png"
    bundle = write_colour_bundle(tmp_path / "colour")
    assert len(bench.labelled(tmp_path / "data", bundle).files) == 10
    (tmp_path / "data/Green/gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="gone: a link that leads nowhere"):
        dataset.read(tmp_path / "data")
    labelled = bench.labelled(tmp_path / "data", bundle)
    assert len(labelled.files) == 10 and labelled.unreadable == (str(tmp_path / "data/Green/gone"),)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_a_class_folder_whose_name_is_no_text_is_refused(
    edge_all: Command, colour_bundle: Bundle, coloured_folder: Path
) -> None:
    (coloured_folder / os.fsdecode(b"R\xe9d")).mkdir()
    for words in (
        ("export", "--backbone", "mobilenetv2", "--weights", "random", "--data", coloured_folder, "--out", "made"),
        ("study", "--data", coloured_folder, "--out", "studied"),
        ("bench", "--quick", "--bundle", colour_bundle.path, "--data", coloured_folder),
    ):
        done = edge_all(*words)
        assert done.returncode == 1 and not done.stdout
        assert "R\\udce9d: its name is not in UTF-8" in done.stderr.splitlines()[-1]
    assert not (coloured_folder.parent / "made").exists()
