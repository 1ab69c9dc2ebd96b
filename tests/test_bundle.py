"""A bundle is whole or refused by the name of what is wrong; writing one is all or nothing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers_bundle import rewritten, write_colour_bundle

from edge_all import bundle as bundles
from edge_all import bundle_checks, machine
from edge_all.bundle import Bundle
from edge_all.bundle_checks import parse_record
from edge_all.bundle_place import check_writable
from edge_all.errors import BundleError

FILES = ("bundle.json", "model.fp32.onnx", "model.cpu.int8.onnx", "probe.npz", "training_images.txt")


def test_loads_from_folder_and_zip(colour_bundle: Bundle, tmp_path: Path) -> None:
    zipped = write_colour_bundle(tmp_path / "colour.zip")
    for path in (colour_bundle.path, zipped.path):
        loaded = bundles.load(path)
        assert loaded.classes == ("Blue", "Green", "Réd")
        assert loaded.read("model.fp32.onnx") == colour_bundle.read("model.fp32.onnx")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_refused_by_name(colour_bundle: Bundle, name: str, damage: str) -> None:
    path = colour_bundle.path / name
    data = bytearray(path.read_bytes())
    if not data and damage != "gone":
        data += b"\n"
    elif damage == "flip":
        data[len(data) // 2] ^= 0x10
    elif damage == "cut":
        del data[len(data) // 2 :]
    path.write_bytes(data) if damage != "gone" else path.unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")) as caught:
        bundles.load(colour_bundle.path)
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_of_the_record_is_noticed(colour_bundle: Bundle) -> None:
    path = colour_bundle.path / "bundle.json"
    whole = path.read_bytes()
    content = json.loads(whole)
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x04
        try:
            assert parse_record(colour_bundle.path, bytes(damaged)) == content  # only white space may differ
        except BundleError:
            continue


def test_a_newer_protocol_asks_for_a_newer_edge_all(colour_bundle: Bundle) -> None:
    path = colour_bundle.path / "bundle.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"protocol": bundle_checks.PROTOCOL + 1, "shape_of_things_to_come": []}))
    with pytest.raises(BundleError, match="install a newer edge_all"):
        bundles.load(colour_bundle.path)


def test_a_name_that_climbs_out_is_refused(colour_bundle: Bundle) -> None:
    entry = {"bytes": 1, "sha256": "0" * 64}
    rewritten(colour_bundle, lambda record: record["files"].update({"../../etc/passwd": entry}))
    with pytest.raises(BundleError, match="not a plain file name"):
        bundles.load(colour_bundle.path)


def test_missing_and_foreign_paths(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    (tmp_path / "empty").mkdir()
    for name in ("nothing", "text.zip", "empty"):
        with pytest.raises(BundleError, match=name):
            bundles.load(tmp_path / name)


def test_newest_of_a_folder(tmp_path: Path) -> None:
    for i, name in enumerate(("old", "new", "older")):
        written = write_colour_bundle(tmp_path / "models" / name)
        stamp = time.time() - 100 * abs(i - 1)
        os.utime(written.path / "bundle.json", (stamp, stamp))
    (tmp_path / "models" / ".new.writing-1-x").mkdir()
    assert bundles.load(tmp_path / "models").path.name == "new"


def test_replaces_a_bundle_and_nothing_else(colour_bundle: Bundle, tmp_path: Path) -> None:
    write_colour_bundle(colour_bundle.path, known=("0" * 64,))
    assert bundles.load(colour_bundle.path).read("training_images.txt").startswith(b"0000")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        write_colour_bundle(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BundleError, match="not a folder that can be written to"):
        check_writable(tmp_path / "file" / "models" / "new")
    check_writable(tmp_path / "models" / "new")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes")
def test_disk_full_leaves_nothing_and_keeps_the_old(colour_bundle: Bundle, tmp_path: Path) -> None:
    """A limit on file sizes makes the kernel refuse a write half-way, as a full disk does."""
    import resource
    import signal

    before = {p.name: p.read_bytes() for p in colour_bundle.path.iterdir()}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from helpers_bundle import *; write_colour_bundle(Path(sys.argv[2]))"
    )

    def small_disk() -> None:
        if sys.platform == "win32":
            pytest.skip("POSIX has it, Windows has not")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))

    for out in (colour_bundle.path, tmp_path / "fresh"):
        command = [sys.executable, "-B", "-c", code, str(Path(__file__).parent), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_disk)
        assert "BundleError" in done.stderr and os.strerror(errno.EFBIG) in done.stderr, done.stderr
    assert not (tmp_path / "fresh").exists()
    assert {p.name: p.read_bytes() for p in colour_bundle.path.iterdir()} == before
    assert not list(tmp_path.glob(".*writing*"))


def test_leftovers_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale = tmp_path / f".colour.writing-{gone.pid}-abc"
    same_number = tmp_path / f".colour.writing-{os.getpid()}-abc"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        alive = tmp_path / f".colour.writing-{process.pid}-abc"
        for folder in (stale, same_number, alive):
            folder.mkdir()
        write_colour_bundle(tmp_path / "colour")
    assert not stale.exists() and not same_number.exists() and alive.exists()


def test_which_processes_are_running() -> None:
    assert machine.is_running(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert machine.is_running(process.pid)
    assert not machine.is_running(process.pid)
    assert not machine.is_running(10**30)


def test_asking_for_what_it_does_not_hold(colour_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="not made for target openvino, only for cpu"):
        colour_bundle.model_file("openvino", "int8")
    with pytest.raises(BundleError, match="holds no int4 graph for target cpu; it holds cpu int8/fp32"):
        colour_bundle.model_file("cpu", "int4")
