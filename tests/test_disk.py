"""A disk that gets full is said once, answers go on, and none is lost without a word; and the file of --log."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_bundle import colour_picture, encoded
from helpers_command import Command

from edge_all import disk
from edge_all.bundle import Bundle
from edge_all.journal import Journal
from edge_all.progress import Notices


@pytest.fixture
def rooms(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the disk says that is free, one number a look."""
    left: list[int] = []
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(2 * 10**9, 0, left.pop(0)))
    monkeypatch.setattr(disk, "_LOOK_SECONDS", 0.0)
    return left


def test_a_disk_that_is_nearly_full_is_said_once_and_when_it_is_well(rooms: list[int], tmp_path: Path) -> None:
    told: list[str] = []
    room = disk.Room(tmp_path / "journal.sqlite", Notices(told.append))
    rooms += [2 * 10**9, 900_000_000, 500_000_000, 1_050_000_000, 900_000_000, 1_200_000_000, 1_200_000_000]
    while rooms:
        room.look()
    assert len(told) == 2
    assert str(tmp_path) in told[0] and "nearly full" in told[0] and "room again" in told[1]


def test_most_looks_only_look_at_the_clock(rooms: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_LOOK_SECONDS", 60.0)
    room = disk.Room(tmp_path / "journal.sqlite", Notices(print))
    rooms.append(10**10)
    for _ in range(100):
        room.look()


def test_a_disk_that_does_not_say_is_no_full_one(tmp_path: Path) -> None:
    told: list[str] = []
    missing = tmp_path / "none" / "journal.sqlite"
    assert disk.free(missing) is None
    disk.Room(missing, Notices(told.append)).look()
    assert not told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if sys.platform != "linux" or os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root mounts a file system")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True)
    if done.returncode:
        pytest.skip("this machine mounts nothing")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(folder: Path) -> Path:
    """A file that takes the rest of the disk."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


def test_serve_answers_on_a_full_disk_and_loses_nothing_silently(small_disk: Path, colour_bundle: Bundle) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    from helpers_serve import picture, serving

    journal = small_disk / "journal.sqlite"
    said: list[str] = []

    def ask(client: Any, seed: int, record: bool) -> Any:
        return client.post("/classify", params={"record": record}, content=picture(1, seed))

    with serving(colour_bundle, journal, said=said) as address, httpx.Client(base_url=address) as client:
        assert ask(client, 1, True).headers["Edge-All-Entry"] == "1"
        ballast = fill(small_disk)
        answers = [ask(client, seed, True) for seed in range(2, 40)]
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused and "disk is full" in refused[0].json()["error"] and refused[0].headers["Retry-After"]
        assert ask(client, 2, False).status_code == 200
        health = client.get("/api/health").json()
        assert health["disk_low"] is True and health["disk_free_bytes"] < 2**20
        assert "edge_all_disk_low 1\n" in client.get("/metrics").text
        ballast.unlink()
        numbers = [int(ask(client, seed, True).headers["Edge-All-Entry"]) for seed in range(1, 40)]
    assert numbers[0] == 1 and len(set(numbers)) == 39
    with Journal.open(journal, create=False) as opened:
        assert len(opened.entries()) == 39
    assert sum("nearly full" in line for line in said) == 1
    assert sum("status 503 until then" in line for line in said) == 1
    assert sum("recorded again" in line for line in said) == 1


def test_watch_and_a_full_disk(
    small_disk: Path, colour_bundle: Bundle, edge_all_program: Command, tmp_path: Path
) -> None:
    """What was not recorded is answered when there is room: the images are still there."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(encoded(colour_picture(0, seed), "PNG"))
    words = ("watch", folder, "--once", "--bundle", colour_bundle.path, "--journal", small_disk / "journal.sqlite")
    with Journal.open(small_disk / "journal.sqlite"):
        pass
    ballast = fill(small_disk)
    full = edge_all_program(*words)
    assert full.returncode == 1 and "nearly full" not in full.stdout
    assert "disk is full" in full.stderr or "cannot be used" in full.stderr
    ballast.unlink()
    assert edge_all_program(*words).returncode == 0
    with Journal.open(small_disk / "journal.sqlite", create=False) as opened:
        assert len(opened.entries()) == 3


def test_the_log_has_what_stderr_had_with_the_time(
    colour_bundle: Bundle, edge_all_program: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(colour_picture(0), "PNG"))
    words = ("watch", folder, "--once", "--bundle", colour_bundle.path, "--log", "messages.log")
    done = edge_all_program(*words, "--journal", "journal.sqlite")
    assert done.returncode == 0
    lines = (tmp_path / "messages.log").read_text("utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == done.stderr.splitlines()
    assert len(lines) > 1 and all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines)


def test_a_log_that_cannot_be_written_is_one_line(edge_all_program: Command, tmp_path: Path) -> None:
    done = edge_all_program("watch", tmp_path, "--log", tmp_path / "none" / "x.log")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "give a file in a folder" in done.stderr


def test_a_log_turns_over_and_takes_warnings(tmp_path: Path) -> None:
    program = (
        "import logging, sys\n"
        "from pathlib import Path\n"
        "from edge_all.cli import output, log\n"
        "log._MOST_BYTES = 2000\n"
        f"output.log_to(Path({str(tmp_path / 'x.log')!r}))\n"
        "logging.getLogger('edge_all').warning('of the cache')\n"
        "for number in range(400): output.tell(f'{number} ' + '.' * 40)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("of the cache") == 1 and done.stderr.count("\n") == 401
    logs = sorted(tmp_path.iterdir())
    assert [log.name for log in logs] == ["x.log", *(f"x.log.{number}" for number in range(1, 6))]
    assert all(log.stat().st_size <= 2000 for log in logs) and "399 ..." in logs[0].read_text()
    with_warning = subprocess.run(
        [sys.executable, "-c", program.replace("range(400)", "range(1)")], capture_output=True, check=True
    )
    assert with_warning.stderr and "Z of the cache\n" in logs[0].read_text()
