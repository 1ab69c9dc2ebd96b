"""Writing a bundle is all or nothing, at whatever step it is killed, and nothing of the user's is replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_bundle import colour_graph, write_colour_bundle
from helpers_command import SMALL, Command

from edge_all import bundle as bundles
from edge_all import bundle_write
from edge_all.bundle import Bundle
from edge_all.bundle_place import check_writable
from edge_all.errors import BundleError
from edge_all.exchange import exchange

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such call")

KILLER = '''
import io, json, os, sys
from pathlib import Path
from edge_all import bundle, bundle_write

os.fsync = lambda handle: None  # the machine is not switched off here
out, exchanges, is_new = Path(sys.argv[1]), sys.argv[2] == "exchange", sys.argv[3] == "new"
record, files = json.loads(sys.argv[4]), {"model.fp32.onnx": bytes.fromhex(sys.argv[5])}
left = 0

def step():
    global left
    left -= 1
    if not left:
        os._exit(9)

class Slow(io.FileIO):
    def write(self, content):
        half = len(content) // 2
        super().write(content[:half])
        step()
        return half + super().write(content[half:])

def stepping(call):
    def counted(*args, **kw):
        step()
        result = call(*args, **kw)
        step()
        return result
    return counted

def write(mark):
    return bundle.write(out, record, files | {"mark": mark})

def killed(number):
    """Write in a process that ends itself at a step; return whether it was done before."""
    global left
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    left = number
    for name in ("rename", "replace", "mkdir", "fsync", "rmdir", "unlink"):
        setattr(os, name, stepping(getattr(os, name)))
    bundle_write.open = lambda path, mode: Slow(path, mode)
    bundle_write.exchange = stepping(bundle_write.exchange)
    write(b"new")
    os._exit(0)

if not exchanges:
    bundle_write.exchange = lambda one, other: False
seen, done = [], False
while not done:
    if not is_new:
        write(b"old")
    done = killed(len(seen) + 1)
    try:
        seen.append(bundle.load(out).read("mark").decode())
    except Exception as error:
        seen.append(f"{type(error).__name__}: {error}")
    write(b"next")
    over = sorted(path.name for path in out.parent.iterdir())
    assert over == [out.name], (len(seen), over)
    if is_new:
        import shutil
        shutil.rmtree(out) if out.is_dir() else out.unlink()
print(json.dumps(seen))
'''


def one_graph() -> dict[str, object]:
    """A record with one graph, for a bundle of few files."""
    from helpers_bundle import colour_record

    record = colour_record()
    record["models"] = {"cpu": {"fp32": "model.fp32.onnx"}}
    return record


@posix
@pytest.mark.parametrize(
    ("way", "name", "before"),
    [
        ("exchange", "bundle", "old"),
        ("rename", "bundle", "old"),
        ("rename", "bundle.zip", "old"),
        ("exchange", "bundle", "new"),
        ("rename", "bundle.zip", "new"),
    ],
)
def test_killed_at_every_step(tmp_path: Path, way: str, name: str, before: str) -> None:
    """After each step there is the old bundle or the new one, whole, and the next run leaves nothing over."""
    words = [str(tmp_path / "models" / name), way, before, json.dumps(one_graph()), colour_graph().hex()]
    done = subprocess.run([sys.executable, "-P", "-c", KILLER, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) > 15 and seen[-1] == "new"
    change = seen.index("new")
    assert change > 5
    assert seen[change:] == ["new"] * (len(seen) - change)
    if before == "old":
        assert seen[:change] == ["old"] * change
    else:
        assert all("no such bundle" in text for text in seen[:change])


@posix
def test_names_are_exchanged(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "content").write_text("1")
    other.write_text("2")
    if not exchange(one, other):
        pytest.skip("this file system cannot exchange names")
    assert one.read_text() == "2" and (other / "content").read_text() == "1"
    with pytest.raises(OSError):
        exchange(one, tmp_path / "missing")


@pytest.mark.parametrize("look", [lambda path: path, lambda path: path.parent])
def test_a_bundle_that_was_taken_away_is_put_back(tmp_path: Path, look: Callable[[Path], Path]) -> None:
    """Where names cannot be exchanged, a kill between two renames leaves the old bundle in the hidden folder."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    place = write_colour_bundle(tmp_path / "models" / "colour").path
    hidden = place.with_name(f".colour.writing-{gone.pid}-x")
    hidden.mkdir()
    place.rename(hidden / "replaced")
    assert bundles.load(look(place)).path == place


def test_a_clock_before_1980(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(0))
    one, other = (write_colour_bundle(tmp_path / name).path for name in ("one.zip", "other.zip"))
    assert bundles.load(one).name == "colour" and one.read_bytes() == other.read_bytes()
    folder = write_colour_bundle(tmp_path / "folder").path
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    assert bundles.newest(tmp_path)


def foreign_zip(place: Path) -> None:
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("thesis.tex", "years of work")


def zip_with_notes(place: Path) -> None:
    write_colour_bundle(place)
    with zipfile.ZipFile(place, "a") as archive:
        archive.writestr("notes.txt", "mine")


def foreign_json(place: Path) -> None:
    place.mkdir()
    (place / "bundle.json").write_text('{"name": "of another program"}')


def notes(place: Path) -> None:
    write_colour_bundle(place)
    (place / "notes.txt").write_text("mine")


def pipe(place: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    os.mkfifo(place)


def folder_inside(place: Path) -> None:
    write_colour_bundle(place)
    (place / "more").mkdir()


def damaged_record(place: Path) -> None:
    write_colour_bundle(place)
    (place / "bundle.json").write_text("{")


def some_text(place: Path) -> None:
    place.write_text("text")


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("data.zip", foreign_zip, "exists and is not a bundle"),
        ("data.zip", some_text, "exists and is not a bundle"),
        ("data.zip", Path.mkdir, "exists and is not a bundle"),
        ("data", some_text, "exists and is not a bundle"),
        ("data", foreign_json, "exists and is not a bundle"),
        ("data", damaged_record, "exists and is not a bundle"),
        ("data.zip", zip_with_notes, "does not list notes.txt, which would be lost"),
        ("data", notes, "does not list notes.txt, which would be lost"),
        ("data", folder_inside, "does not list more, which would be lost"),
        pytest.param("data", pipe, "exists and is not a bundle", marks=posix),
        pytest.param("data.zip", pipe, "exists and is not a bundle", marks=posix),
        pytest.param("data", lambda place: place.symlink_to("/dev/null"), "exists and is not a bundle", marks=posix),
        pytest.param("data", lambda place: place.symlink_to("data"), "cannot be written", marks=posix),
    ],
)
def test_nothing_of_the_users_is_replaced(tmp_path: Path, name: str, make: Callable[[Path], None], said: str) -> None:
    place = tmp_path / name
    make(place)
    before = contents(place)
    for attempt in (check_writable, write_colour_bundle):
        with pytest.raises(BundleError, match=said):
            attempt(place)
    assert contents(place) == before


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--out", "data"), ("--tap", "auto", "--report", "report")])
def test_an_export_says_so_before_the_work(
    tmp_path: Path, drawn: Path, edge_all: Command, words: tuple[str, ...]
) -> None:
    notes(tmp_path / "data")
    (tmp_path / "report" / "taps.md").mkdir(parents=True)
    done = edge_all("export", *SMALL, "--data", drawn, *words)
    assert done.returncode == 1 and "Reading" not in done.stderr
    assert "notes.txt, which would be lost" in done.stderr or "taps.md is a folder" in done.stderr


def contents(place: Path) -> object:
    """Everything at a place."""
    if place.is_dir():
        return {path.name: path.is_dir() or path.read_bytes() for path in place.iterdir()}
    return place.read_bytes() if place.is_file() else os.lstat(place).st_mode


def test_what_is_replaced(colour_bundle: Bundle, tmp_path: Path) -> None:
    (colour_bundle.path / ".DS_Store").write_text("left by a file manager")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.zip").touch()
    zipped = write_colour_bundle(tmp_path / "old.zip").path
    for place in (colour_bundle.path, tmp_path / "empty", tmp_path / "empty.zip", zipped):
        write_colour_bundle(place, known=("0" * 64,))
        assert bundles.load(place).training_images() == {"0" * 16}
    assert not list(tmp_path.glob(".*"))


@posix
def test_a_link_stays_and_leads_to_the_new_bundle(tmp_path: Path) -> None:
    write_colour_bundle(tmp_path / "disk" / "v1")
    (tmp_path / "models").mkdir()
    for name, target in (("current", "../disk/v1"), ("next", "../disk/v2"), ("one.zip", "../disk/v3.zip")):
        link = tmp_path / "models" / name
        link.symlink_to(target)
        write_colour_bundle(link, known=("0" * 64,))
        assert link.is_symlink() and os.readlink(link) == target
        assert bundles.load(link).training_images()
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["v1", "v2", "v3.zip"]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["current", "next", "one.zip"]


def test_a_record_that_no_reader_takes_is_not_written(tmp_path: Path) -> None:
    record = one_graph() | {"classes": ["same", "same", "same"]}
    with pytest.raises(BundleError, match="wanted values that differ"):
        bundles.write(tmp_path / "new", record, {"model.fp32.onnx": colour_graph()})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_leftovers_of_another_bundle_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    other = tmp_path / f".colour2.writing-{gone.pid}-x"
    other.mkdir()
    write_colour_bundle(tmp_path / "colour")
    bundle_write.restore_all(tmp_path)
    assert other.exists()
