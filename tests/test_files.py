"""Files are written whole; a link, a device or a pipe at their place stays what it is."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers_command import Command, run_program

from edge_all import files
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files, or asks for a right to make them")


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "report.json"
    files.write(place, "old")
    with pytest.raises(ZeroDivisionError), files.replacing(place) as aside:
        aside.write_text("new")
        _ = 1 / 0
    assert place.read_text() == "old" and list(tmp_path.iterdir()) == [place]


@posix
@pytest.mark.parametrize("target", ["../elsewhere/real.json", "../elsewhere/not there yet.json", "second"])
def test_a_link_stays(tmp_path: Path, target: str) -> None:
    for name in ("here", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "elsewhere" / "real.json").write_text("old")
    (tmp_path / "here" / "second").symlink_to("../elsewhere/real.json")
    link = tmp_path / "here" / "report.json"
    link.symlink_to(target)
    files.write(link, "new")
    assert os.readlink(link) == target and link.read_text() == "new"
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@posix
def test_rights_stay(tmp_path: Path) -> None:
    place = tmp_path / "report.json"
    place.touch(mode=0o600)
    files.write(place, "new")
    assert stat.S_IMODE(place.stat().st_mode) == 0o600


@posix
def test_a_device_stays() -> None:
    before = os.stat("/dev/null")
    files.write(Path("/dev/null"), b"gone")
    assert os.stat("/dev/null").st_ino == before.st_ino and stat.S_ISCHR(os.stat("/dev/null").st_mode)


@posix
def test_a_pipe_stays(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = b"x" * 300_000
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, content)
    reader.join()
    assert read == [content] and stat.S_ISFIFO(pipe.lstat().st_mode)


@posix
@pytest.mark.parametrize("place", ["/dev/stdout", "out.txt", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("into", ["file", "pipe"])
def test_stdout_goes_on_behind_the_content(tmp_path: Path, place: str, into: str) -> None:
    if into == "pipe" and place == "out.txt" or not Path(place).parent.exists():
        pytest.skip("there is no such place")
    code = (
        "import sys; from pathlib import Path; from edge_all import files; print('before')\n"
        "files.check_writable(Path(sys.argv[1])); files.write(Path(sys.argv[1]), 'content\\n'); print('after')"
    )
    command = [sys.executable, "-P", "-c", code, place]
    if into == "pipe":
        printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    else:
        with open(tmp_path / "out.txt", "w") as file:
            subprocess.run(command, stdout=file, check=True, cwd=tmp_path)
        printed = (tmp_path / "out.txt").read_text()
    assert printed.split() == ["before", "content", "after"]


def bind(path: Path) -> None:
    """A socket; its name may be too long for the system, so that it is made from its own folder."""
    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (Path.mkdir, "report", "is a folder; wanted the name of a file"),
        (lambda path: None, "report/x.json", "there is no folder"),
        (Path.touch, "report/x.json", "there is no folder|cannot be written"),
        pytest.param(lambda path: path.symlink_to(path.name), "report", "cannot be written", marks=posix),
        pytest.param(lambda path: path.symlink_to("no/where"), "report", "there is no folder", marks=posix),
        pytest.param(bind, "report", "is no file; wanted the name of a file", marks=posix),
    ],
)
@pytest.mark.parametrize("option", ["--json", "--csv", "--plot"])
def test_places_are_checked_before_the_measurement(
    tmp_path: Path, edge_all: Command, make: Callable[[Path], None], name: str, said: str, option: str
) -> None:
    make(tmp_path / "report")
    with pytest.raises(EdgeAllError, match=said):
        files.check_writable(tmp_path / name)
    done = edge_all("bench", option, name, "--bundle", "there is none")
    assert done.returncode == 1 and "no such bundle" not in done.stderr and name.split("/")[0] in done.stderr


def test_two_reports_do_not_share_a_file(tmp_path: Path, edge_all: Command) -> None:
    done = edge_all("bench", "--json", "report", "--csv", tmp_path / "report", "--bundle", "there is none")
    assert done.returncode == 1 and "is given for two reports" in done.stderr
    if os.name != "nt":
        done = edge_all("bench", "--json", "/dev/null", "--csv", "/dev/null", "--bundle", "there is none")
        assert "no such bundle" in done.stderr


@posix
def test_bench_writes_to_stdout_and_through_links(colour_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("rows.csv")
    words = ("--precision", "fp32", "--json", "/dev/stdout", "--csv", "link.csv", "--plot", "/dev/null")
    done = run_program("bench", "--quick", "--bundle", colour_bundle.path, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report, _ = json.JSONDecoder().raw_decode(done.stdout)
    assert len(report["rows"]) == 1 and "Deploy: " in done.stdout
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "rows.csv").read_text().startswith("bundle,")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
