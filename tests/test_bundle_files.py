"""What is read of a bundle: the files that its record lists, regular ones, of their size, and what was hashed."""

from __future__ import annotations

import logging
import os
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import colour_graph, exchanged, rewritten, write_colour_bundle
from helpers_command import Command

from edge_all import bundle as bundles
from edge_all import bundle_files, load, probe
from edge_all.bundle import Bundle
from edge_all.errors import BundleError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, or asks for a right to make them")


def test_only_what_the_record_lists_is_read(colour_bundle: Bundle) -> None:
    (colour_bundle.path / "notes.txt").write_text("mine")
    loaded = bundles.load(colour_bundle.path)
    for name in ("notes.txt", "bundle.json", "../colour/probe.npz", "missing"):
        with pytest.raises(BundleError, match="its record lists no file"):
            loaded.read(name)


def test_what_was_hashed_is_what_is_loaded(colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that is exchanged between the check and the engine is refused, and so is one during the check."""
    loaded = bundles.load(colour_bundle.path)
    place = colour_bundle.path / "model.fp32.onnx"
    before = place.read_bytes()
    place.write_bytes(colour_graph(gain=-8.0))
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx is damaged"):
        loaded.read("model.fp32.onnx")
    place.write_bytes(before)
    check = bundle_files.check

    def swap(path: Path, name: str, entry: Any) -> None:
        check(path, name, entry)
        place.write_bytes(colour_graph(gain=-8.0))

    monkeypatch.setattr(bundle_files, "check", swap)
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx is damaged"):
        load(colour_bundle.path, precision="fp32")


def fifo(path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    os.mkfifo(path)


def link(path: Path) -> None:
    path.symlink_to(path.with_name("kept"))


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


@posix
@pytest.mark.parametrize("name", ["bundle.json", "model.fp32.onnx", "probe.npz"])
@pytest.mark.parametrize("make", [fifo, link, device, dangling, Path.mkdir])
def test_a_file_is_a_regular_one(colour_bundle: Bundle, name: str, make: Callable[[Path], None]) -> None:
    place = colour_bundle.path / name
    place.rename(place.with_name("kept"))
    make(place)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        bundles.load(colour_bundle.path)


@posix
@pytest.mark.parametrize("make", [fifo, device])
def test_the_bundle_itself_is_no_pipe(tmp_path: Path, make: Callable[[Path], None], edge_all: Command) -> None:
    make(tmp_path / "pipe.zip")
    done = edge_all("classify", "x.png", "--bundle", tmp_path / "pipe.zip")
    assert done.returncode == 1 and "no regular file" in done.stderr


@posix
def test_a_link_to_a_bundle_is_one(colour_bundle: Bundle, tmp_path: Path) -> None:
    zipped = write_colour_bundle(tmp_path / "real.zip")
    for name, path in (("folder", colour_bundle.path), ("link.zip", zipped.path)):
        (tmp_path / name).symlink_to(path)
        assert bundles.load(tmp_path / name).name == "colour"


def test_sizes_are_compared_before_anything_is_read(colour_bundle: Bundle) -> None:
    rewritten(colour_bundle, lambda record: record["files"]["probe.npz"].update(bytes=5))
    with pytest.raises(BundleError, match=r"probe\.npz has \d+ bytes, and 5 are wanted"):
        bundles.load(colour_bundle.path)
    (colour_bundle.path / "bundle.json").write_bytes(b" " * (bundle_files.MAX_RECORD + 1))
    with pytest.raises(BundleError, match="at most 4194304 are read"):
        bundles.load(colour_bundle.path)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    return write_colour_bundle(tmp_path / "colour.zip").path


def patched(content: bytes, offset: int, value: int) -> bytes:
    """Another 16-bit number in the header of every member; `offset` is counted in the local header."""
    patch = bytearray(content)
    for mark, behind in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            struct.pack_into("<H", patch, start + offset + behind, value)
            start += 4
    return bytes(patch)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: patched(content, 6, 1), "encrypted"),
        (lambda content: patched(content, 8, 99), "compression method"),
        (lambda content: patched(content, 8, 12), "bundle.json"),
        (lambda content: patched(content, 8, 14), "bundle.json"),
        (lambda content: content[: len(content) // 2], "not a zip file"),
        (lambda content: content[:-30], "not a zip file"),
        (lambda content: b"", "not a zip file"),
        (lambda content: b"PK\5\6" + b"\xff" * 18, "bundle.json"),
        (lambda content: content.replace(b"bundle.json", b"bundle.jsoN"), "bundle.json is missing"),
        (lambda content: content.replace(b"bundle.json", b"bundle.jsoN", 1), "bundle.json"),
    ],
)
def test_zips_that_are_none(zipped: Path, change: Callable[[bytes], bytes], said: str) -> None:
    zipped.write_bytes(change(zipped.read_bytes()))
    with pytest.raises(BundleError, match=said) as caught:
        bundles.load(zipped)
    assert "\n" not in str(caught.value)


def test_no_damage_of_a_zip_ends_in_another_error(zipped: Path) -> None:
    content = zipped.read_bytes()
    rng = np.random.default_rng(0)
    directory = content.rindex(b"PK\1\2") - 200
    for number in range(150):
        damaged = bytearray(content)
        low = directory if number % 2 else 0
        for position in rng.integers(low, len(content), rng.integers(1, 3)):
            damaged[position] = rng.integers(0, 256)
        zipped.write_bytes(damaged)
        try:
            assert bundles.load(zipped).name == "colour"
        except BundleError as error:
            assert "\n" not in str(error)


def test_a_bomb_is_not_unpacked(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "_BOMB_BYTES", 1000)
    with zipfile.ZipFile(zipped) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for name in ("bundle.json", "probe.npz"):
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            for each, content in contents.items():
                archive.writestr(each, bytes(10**6) if each == name else content)
        with pytest.raises(BundleError, match=f"{name} cannot be read .* would become 1000000"):
            bundles.load(zipped)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_that_holds_a_file_twice(zipped: Path) -> None:
    with zipfile.ZipFile(zipped, "a") as archive:
        archive.writestr("probe.npz", b"another")
    with pytest.raises(BundleError, match="holds it 2 times"):
        bundles.load(zipped)


def test_a_bomb_in_the_probe(colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, edge_all: Command) -> None:
    monkeypatch.setattr(probe, "_MAX_BYTES", 1000)
    with pytest.raises(BundleError, match=r"probe\.npz is no probe of this bundle"):
        probe.images(colour_bundle)
    broken, small = colour_bundle, probe.pack(np.zeros((2, 5, 5, 3), np.uint8), {})
    for content in (b"PK\3\4 no more", b"\x93NUMPY", small, b""):
        broken = exchanged(broken, probe.FILE, content)
        with pytest.raises(BundleError, match=r"probe\.npz is no probe of this bundle"):
            probe.images(broken)
    done = edge_all("classify", "x.png", "--bundle", broken.path)
    assert done.returncode == 1 and "is no probe of this bundle" in done.stderr


def test_training_images_that_are_no_list(colour_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"training_images\.txt is no list"):
        exchanged(colour_bundle, "training_images.txt", b"\xff\xfe").training_images()


def test_what_is_no_bundle_hides_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    models = tmp_path / "models"
    models.mkdir()
    (models / "text.zip").write_text("no zip")
    with zipfile.ZipFile(models / "data.zip", "w") as archive:
        archive.writestr("data.csv", "1,2")
    (models / "folder.zip").mkdir()
    (models / "notes").mkdir()
    assert bundles.default() == bundles.BUILTIN
    assert "data.zip: not a bundle, and left out" in caplog.text and "text.zip: not a bundle" in caplog.text
    write_colour_bundle(models / "older")
    os.utime(models / "older" / "bundle.json", (1, 1))
    assert bundles.default() == Path("models/older")


def test_models_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edge_all: Command) -> None:
    (tmp_path / "models").mkdir()
    real = Path.iterdir

    def refuse(path: Path) -> Any:
        if path.name == "models":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    done = edge_all("doctor", "--target", "gpu", "--json")
    assert "models: cannot be read (Permission denied)" in done.stderr and '"bundle": "' in done.stdout


def test_a_folder_in_models_that_cannot_be_read(
    colour_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "closed").mkdir()
    real = Path.is_file

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    assert bundles.newest(tmp_path) == colour_bundle.path
    assert "closed: cannot be read (Permission denied), and left out" in caplog.text


@pytest.mark.parametrize("make", [Path.touch, pytest.param(lambda path: path.symlink_to(path), marks=posix)])
def test_models_that_are_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("models"))
    assert bundles.default() == bundles.BUILTIN


def test_a_broken_bundle_in_models_is_said_and_not_passed_over(colour_bundle: Bundle, edge_all: Command) -> None:
    models = colour_bundle.path.parent / "models"
    shutil.copytree(colour_bundle.path, models / "new")
    (models / "new" / "probe.npz").unlink()
    done = edge_all("classify", "x.png")
    assert done.returncode == 1 and "probe.npz is missing" in done.stderr


def test_nothing_is_logged_for_sound_folders(
    colour_bundle: Bundle, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert bundles.newest(tmp_path) == colour_bundle.path
    assert not caplog.records
