"""The cache folder: nobody else's files are used, nothing in it stops a run, and what cannot be kept is made again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import colour_picture
from helpers_command import PROGRAM, Command

from edge_all import bundle, cache, load
from edge_all.bundle import Bundle

posix = pytest.mark.skipif(sys.platform == "win32", reason="owner and mode are POSIX's")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "above" / "cache"))
    cache._refuse.cache_clear()
    return tmp_path / "above" / "cache"


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file another user's."""
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)


@posix
def test_what_is_kept_is_for_the_user_alone(base: Path) -> None:
    cache.store("checks/a", b"content")
    assert cache.load("checks/a", 7) == b"content"
    folders = [base.parent, base, base / "checks"]
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700] * 3
    assert (base / "checks" / "a").stat().st_mode & 0o777 == 0o600
    assert cache.folder("engines/tensorrt") == (base / "engines" / "tensorrt").resolve()
    cache.remove("checks/a")
    cache.remove("checks/a")
    assert cache.load("checks/a", 7) is None


@posix
@pytest.mark.parametrize("where", ["checks/a", "checks", "", ".."])
@pytest.mark.parametrize("how", ["group", "all", "owner"])
def test_what_others_may_write_is_not_used(
    base: Path, where: str, how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache.store("checks/a", b"content")
    path = (base / where).resolve()
    if how == "owner":
        give_away(path, monkeypatch)
    else:
        path.chmod(path.stat().st_mode | (0o020 if how == "group" else 0o002))
    assert cache.load("checks/a", 7) is None and cache.load("checks/a", 7) is None
    (said,) = caplog.records
    assert said.name == "edge_all" and "another user may write" in said.getMessage()
    assert "\n" not in said.getMessage()
    if where != "checks/a":
        cache.store("checks/b", b"")
        assert cache.folder("checks") is None
        assert not (base / "checks" / "b").exists()


@posix
def test_a_sticky_folder_above_is_no_danger_and_the_cache_itself_must_not_be_one(base: Path) -> None:
    cache.store("checks/a", b"content")
    base.parent.chmod(0o1777)
    assert cache.load("checks/a", 7) == b"content"
    (base / "checks").chmod(0o1777)
    assert cache.load("checks/a", 7) is None


@posix
@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "huge"])
def test_what_is_no_file_of_ours_is_not_read(kind: str, base: Path, tmp_path: Path) -> None:
    folder = cache.folder("checks")
    assert folder
    file = folder / "a"
    if kind == "pipe":
        if sys.platform == "win32":
            pytest.skip("POSIX has it, Windows has not")
        os.mkfifo(file, 0o600)  # whoever opens it to read waits for a writer
    elif kind == "folder":
        file.mkdir()
    elif kind == "link":
        (tmp_path / "target").write_bytes(b"content")
        file.symlink_to(tmp_path / "target")
    else:
        with file.open("wb") as sparse:
            sparse.truncate(2**40)
    assert cache.load("checks/a", 2**20) is None
    cache.store("checks/a", b"content")
    assert cache.load("checks/a", 7) == (None if kind == "folder" else b"content")
    cache.remove("checks/a")


@posix
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, colour_bundle: Bundle, base: Path) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    cache.store("checks/a", b"content")
    assert cache.load("checks/a", 7) == b"content"
    monkeypatch.delenv("EDGE_ALL_CACHE")
    cache.store("checks/a", b"content")
    assert cache.folder("checks") is None and cache.load("checks/a", 7) is None
    classifier = load(colour_bundle.path, precision="auto")
    assert classifier.precision == "int8"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_a_full_disk(target: str, tmp_path: Path, base: Path) -> None:
    resource = pytest.importorskip("resource")

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    picture = tmp_path / "picture.png"
    colour_picture(0).save(picture)
    words: list[str | Path] = [PROGRAM, "classify", picture, "--bundle", bundle.BUILTIN, "--target", target, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=full, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"precision": "int8"' in done.stdout
    told = [line for line in done.stderr.splitlines() if not re.match(r"edge-all: \d", line)]
    assert not told, "nothing but the counts at the end"
    assert not [path for path in base.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that root cannot write to either")
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_a_cache_and_a_folder_for_temporary_files_that_cannot_be_written(
    target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", "/proc/no-such-folder")
    monkeypatch.setattr("tempfile.tempdir", "/proc/no-such-folder")
    probabilities = load(bundle.BUILTIN, target=target, precision="auto").probabilities(
        np.zeros((1, 224, 224, 3), np.uint8)
    )
    assert probabilities.shape == (1, 4)


def test_graphs_are_compiled_beside_the_cache_and_not_where_others_may_write(
    monkeypatch: pytest.MonkeyPatch, colour_bundle: Bundle, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "new"))
    monkeypatch.setattr("tempfile.tempdir", "no-such-folder")
    load(colour_bundle.path)
    assert [path.suffix for path in (tmp_path / "new" / "engines").iterdir()] == [".onnxruntime"]


@posix
def test_the_command_says_it_in_one_line(edge_all_program: Command, base: Path, tmp_path: Path) -> None:
    cache.store("checks/a", b"")
    base.chmod(0o777)
    colour_picture(0).save(tmp_path / "picture.png")
    done = edge_all_program("classify", "picture.png", "--bundle", bundle.BUILTIN, "--json")
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert (
        len(re.findall(r"(?m)^(?!edge-all: \d).+$", done.stderr)) == 1
        and f"{base}: another user may write there" in done.stderr
    )


def test_doctor_without_a_place_for_temporary_files(
    edge_all: Command, colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(mode: str) -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    done = edge_all("doctor", "--bundle", colour_bundle.path)
    assert done.returncode == 0, done.stderr
