"""`edge-all watch` and `edge-all results`: whatever happens to files, folders, bundle, journal or process, each image
is answered once and nothing is lost."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers_bundle import CLASSES, colour_picture, encoded, write_colour_bundle
from helpers_command import PROGRAM, Command

from edge_all import class_folders, filing, image, journal, load, self_check, watch
from edge_all.bundle import Bundle
from edge_all.cli.appended import Appended
from edge_all.errors import JournalError, TargetError
from edge_all.journal import Entry, Journal
from edge_all.live import Live
from edge_all.progress import Notices
from edge_all.targets import EngineOptions

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and such files are POSIX")

QUICK = watch.Options(poll=0.02, settle=0.02, incomplete=0.3)


def png(number: int) -> bytes:
    """A picture of its own; its class is red, green or blue by number."""
    return encoded(colour_picture(number % 3, seed=number), "PNG")


@dataclass
class Bench:
    """A watcher on one folder, and what it said."""

    folder: Path
    journal: Journal
    watcher: watch.Watcher
    told: list[str] = field(default_factory=list)
    reported: list[Entry] = field(default_factory=list)

    def until(self, done: Callable[[], bool], seconds: float = 20.0) -> None:
        """Look again and again."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, (self.told, self.reported)
            self.watcher._look_and_repair()
            time.sleep(0.005)

    def idle(self, looks: int = 12) -> None:
        """Look for longer than a file takes to settle."""
        for _ in range(looks):
            self.watcher._look_and_repair()
            time.sleep(0.005)

    def put(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    @property
    def names(self) -> list[str]:
        return [Path(entry.file).name for entry in self.reported]


@pytest.fixture
def make(tmp_path: Path, colour_bundle: Bundle) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(options: watch.Options = QUICK) -> Bench:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        told: list[str] = []
        reported: list[Entry] = []
        opened = Journal.open(tmp_path / "journal.sqlite", tell=told.append)
        load = lambda bundle: self_check.load(bundle, EngineOptions(), "fp32", told.append)  # noqa: E731
        live = Live(colour_bundle.path, load, told.append)
        watcher = watch.Watcher([folder], opened, live, options, told.append, reported.append)
        made.append(Bench(folder, opened, watcher, told, reported))
        return made[-1]

    yield bench
    for each in made:
        each.watcher._wake.close()
        each.journal.close()


def test_images_are_answered_once_in_order_also_after_a_restart_and_a_rename(make: Callable[..., Bench]) -> None:
    first = make()
    for number, name in enumerate(("c.png", "sub/b.png", "a.png")):
        os.utime(first.put(name, png(number)), ns=(0, 10**18 + number))
    first.put("notes.txt", b"no image")
    first.until(lambda: len(first.reported) == 3)
    assert first.names == ["c.png", "b.png", "a.png"]
    assert [entry.label for entry in first.reported] == ["Réd", "Green", "Blue"]
    assert all(entry.sha256 == hashlib.sha256(Path(entry.file).read_bytes()).hexdigest() for entry in first.reported)
    (first.folder / "a.png").rename(first.folder / "renamed.png")
    first.put("copy.png", png(0))
    first.idle()
    second = make()
    second.put("d.png", png(4))
    second.until(lambda: len(second.reported) == 1)
    second.idle()
    assert second.names == ["d.png"] and len(first.reported) == 3 and len(second.journal.entries()) == 4


def test_a_file_that_grows_is_taken_when_it_is_whole(make: Callable[..., Bench]) -> None:
    bench = make(watch.Options(poll=0.02, settle=0.02, incomplete=60))
    content = encoded(colour_picture(1), "JPEG", quality=95)
    path = bench.put("slow.jpg", content[: len(content) // 3])
    bench.until(lambda: bool(bench.watcher.incomplete))
    with open(path, "ab") as file:
        file.write(content[len(content) // 3 : -100])
    bench.idle()
    assert not bench.reported
    with open(path, "ab") as file:
        file.write(content[-100:])
    bench.until(lambda: bool(bench.reported))
    assert bench.reported[0].sha256 == hashlib.sha256(content).hexdigest() and not bench.told
    assert [entry.status for entry in bench.journal.entries()] == ["ok"]


def test_what_never_becomes_an_image_is_refused_once(make: Callable[..., Bench]) -> None:
    bench = make()
    path = bench.put("cut.png", png(0)[:60])
    bench.until(lambda: bool(bench.reported))
    assert bench.reported[0].status == "refused" and "truncated" in bench.reported[0].error
    bench.idle(40)
    again = make()
    again.idle(80)
    assert len(bench.reported) == 1 and not again.reported
    path.write_bytes(png(0))
    again.until(lambda: bool(again.reported))
    assert again.reported[0].label == "Réd"


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make()
    path = bench.put("a.png", png(0))
    real, reads = image.read_bytes, []

    def read(path: Path) -> bytes:
        content = real(path)
        reads.append(path)
        if len(reads) == 1:
            path.with_suffix(".new").write_bytes(png(1))
            path.with_suffix(".new").replace(path)
        return content

    monkeypatch.setattr(image, "read_bytes", read)
    bench.until(lambda: bool(bench.reported))
    bench.idle()
    assert len(reads) == 2 and [entry.label for entry in bench.journal.entries()] == ["Green"]
    assert bench.reported[0].sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_partial_files_of_other_programs_are_left_alone(make: Callable[..., Bench]) -> None:
    bench = make()
    names = (".a.png.Xy12Zq", "a.png.part", "b.png.crdownload", "c.tmp", "~$d.png")
    files = [bench.put(name, png(number)) for number, name in enumerate(names)]
    bench.idle()
    assert not bench.reported and not bench.told
    files[0].rename(bench.folder / "a.png")
    bench.until(lambda: bool(bench.reported))
    assert bench.names == ["a.png"]


def test_two_watchers_share_a_folder(make: Callable[..., Bench]) -> None:
    one, two = make(), make()
    for number in range(12):
        one.put(f"{number}.png", png(number))
        one.idle(1)
        two.idle(1)

    def all_are_answered() -> bool:
        if len(one.journal.entries()) != 12:
            return False
        one.idle(3)
        two.idle(3)
        return True

    one.until(all_are_answered)
    assert len(one.reported) + len(two.reported) == 12
    assert len({entry.sha256 for entry in one.journal.entries()}) == 12


def test_a_folder_that_vanishes_is_waited_for(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.put("a.png", png(0))
    bench.until(lambda: len(bench.reported) == 1)
    away = bench.folder.rename(bench.folder.with_name("away"))
    bench.idle()
    assert len(bench.told) == 1 and "has gone" in bench.told[0]
    (away / "b.png").write_bytes(png(1))
    away.rename(bench.folder)
    bench.until(lambda: len(bench.reported) == 2 == len(bench.told))
    assert "is back" in bench.told[1] and bench.names == ["a.png", "b.png"]


def test_a_journal_that_cannot_be_written_loses_nothing(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, add, full = make(), Journal.add, [True]

    def failing(journal: Journal, entry: Entry) -> Entry | None:
        if full:
            raise JournalError("the journal cannot be used: database or disk is full")
        return add(journal, entry)

    monkeypatch.setattr(Journal, "add", failing)
    bench.put("a.png", png(0))
    bench.until(lambda: bool(bench.told))
    bench.idle()
    assert len(bench.told) == 1 and "disk is full; trying again" in bench.told[0] and not bench.reported
    full.clear()
    bench.until(lambda: bool(bench.reported))
    assert "can be used again" in bench.told[1] and len(bench.told) == 2


@posix
def test_a_journal_that_is_damaged_meanwhile_is_begun_again(make: Callable[..., Bench], tmp_path: Path) -> None:
    bench = make()
    bench.put("a.png", png(0))
    bench.until(lambda: len(bench.reported) == 1)
    path = tmp_path / "journal.sqlite"
    with closing(Journal.open(path)) as other:
        other._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path.write_bytes(b"\xff" * path.stat().st_size)
    bench.put("b.png", png(1))
    bench.until(lambda: len(bench.journal.entries()) == 2 if len(bench.reported) > 2 else False)
    assert any("the journal is damaged" in line for line in bench.told)
    assert sorted(Path(entry.file).name for entry in bench.journal.entries()) == ["a.png", "b.png"]


def test_a_failing_engine_is_asked_again(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, failures = make(), [True]
    classifier = bench.watcher._live.classifier
    real = classifier.classify

    def classify(data: bytes) -> object:
        if failures:
            raise TargetError("the engine has no memory")
        return real(data)

    monkeypatch.setattr(classifier, "classify", classify)
    monkeypatch.setattr(watch, "_ENGINE_SECONDS", 0.01)
    bench.put("a.png", png(0))
    bench.until(lambda: bool(bench.told))
    bench.idle()
    assert len(bench.told) == 1 and "no memory; trying again" in bench.told[0]
    failures.clear()
    bench.until(lambda: bool(bench.reported))


def test_a_bundle_that_is_replaced_answers_if_it_is_whole(
    make: Callable[..., Bench], colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_all import live

    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0.0)
    bench, old = make(), colour_bundle.digest
    record = colour_bundle.path / "bundle.json"
    record.write_text(record.read_text()[:-40])
    bench.put("a.png", png(0))
    bench.put("b.png", png(1))
    bench.until(lambda: len(bench.reported) == 2)
    assert len(bench.told) == 1 and "damaged" in bench.told[0] and "goes on answering" in bench.told[0]
    assert {entry.bundle_digest for entry in bench.reported} == {old}
    new = write_colour_bundle(colour_bundle.path.with_name("new"), known=("0" * 64,))
    for file in new.path.iterdir():
        file.replace(colour_bundle.path / file.name)
    bench.put("c.png", png(2))
    bench.until(lambda: len(bench.reported) == 3)
    assert bench.reported[2].bundle_digest == new.digest != old and "answers now" in bench.told[-1]


def test_moving_overwrites_nothing_and_the_journal_knows_where(make: Callable[..., Bench]) -> None:
    bench = make(watch.Options(poll=0.02, settle=0.02, incomplete=0.05, move=True))
    there = bench.put("Green/a.png", b"somebody's")
    bench.put("a.png", png(1))
    bench.put("sub/bad.png", b"none")
    bench.until(lambda: len(bench.reported) == 2)
    bench.idle()
    assert there.read_bytes() == b"somebody's" and (bench.folder / "Green/a-2.png").read_bytes() == png(1)
    assert sorted(path.name for path in bench.folder.iterdir()) == ["Green", "refused", "sub"]
    assert [entry.file for entry in bench.journal.entries()] == [
        str(bench.folder / "Green/a-2.png"),
        str(bench.folder / "refused/bad.png"),
    ]
    bench.put("again.png", png(1))
    bench.until(lambda: (bench.folder / "Green/again.png").exists())
    assert bench.journal.entry(1).file == str(bench.folder / "Green/a-2.png") and not bench.told


def test_an_image_that_another_watcher_moves_is_no_failure(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(watch.Options(poll=0.02, settle=0.02, move=True))

    def lost(source: Path, folder: Path, moved: object) -> Path:
        source.unlink()
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(filing, "move", lost)
    bench.put("a.png", png(0))
    bench.until(lambda: bool(bench.reported))
    bench.idle()
    assert not bench.told and len(bench.journal.entries()) == 1


@posix
def test_a_move_that_was_killed_is_ended(tmp_path: Path) -> None:
    calls: list[Path] = []
    source = tmp_path / "a.png"
    source.write_bytes(b"x")
    (tmp_path / "to").mkdir()
    os.link(source, tmp_path / "to/a.png")
    assert filing.move(source, tmp_path / "to", calls.append) == tmp_path / "to/a.png" == calls[0]
    assert [path.name for path in tmp_path.iterdir()] == ["to"]


def test_results_that_an_older_version_began_go_on_without_reasons(tmp_path: Path, colour_bundle: Bundle) -> None:
    table = tmp_path / "r.csv"
    with Journal.open(tmp_path / "j.sqlite") as opened:
        added = opened.add(journal.refused(load(colour_bundle.path), str(tmp_path / "a.png"), b"a", "no image"))
        assert added
        Appended(table, opened, [tmp_path], CLASSES, Notices(print)).update()
        new = table.read_text("utf-8").splitlines()
        assert new[0].endswith(",time,reason,id") and len(new) == 2
        table.write_text(new[0].replace(",reason", "") + "\n", encoding="utf-8")
        Appended(table, opened, [tmp_path], CLASSES, Notices(print)).update()
    (row,) = rows(table)
    assert row["id"] == "1" and "reason" not in row and row["error"] == "no image"


def test_a_label_is_one_folder_on_every_system() -> None:
    for label in ("../x", "a/b", "a\\b", "..", "", "con", "NUL.x", "a:b ", "x\n", "COM1"):
        name = filing.folder_name(label)
        assert name and not set(name) & set('/\\:\n<>"|?*') and name not in (".", "..") and name.strip(" .") == name
        assert name.lower() not in ("con", "nul.x", "com1")
    assert filing.folder_name("Réd") == "Réd"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of a file is not told")
def test_a_notice_of_the_system_wakes_it_at_once(make: Callable[..., Bench]) -> None:
    """Neither the time between two looks nor the time to settle passes here."""
    pytest.importorskip("watchdog")
    bench = make(watch.Options(poll=60, settle=60))
    bench.watcher.look()
    for name in (".a.png.Xy12Zq", "Blue/sub/no.txt", "~$b.png", "new/a.png"):
        bench.put(name, png(0))
    (bench.folder / ".a.png.Xy12Zq").rename(bench.folder / "b.png")
    bench.until(lambda: len(bench.reported) == 1)
    bench.put("new/c.png", png(1)).rename(bench.folder / "new/d.png")
    bench.until(lambda: len(bench.reported) == 2)
    assert len(bench.journal.entries()) == 2 and not bench.told


def test_without_watchdog_it_looks_every_few_seconds(
    make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)
    bench = make()
    assert "watchdog is not installed" in bench.told[0]
    bench.put("a.png", png(0))
    bench.until(lambda: bool(bench.reported))


def test_the_clock_going_back_disorders_nothing(make: Callable[..., Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make()
    bench.put("a.png", png(0))
    bench.until(lambda: len(bench.reported) == 1)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    os.utime(bench.put("b.png", png(1)), (5e8, 5e8))
    bench.until(lambda: len(bench.reported) == 2)
    assert [entry.id for entry in bench.journal.entries()] == [1, 2]


def words(tmp_path: Path, bundle: Bundle, *more: object) -> tuple[object, ...]:
    return ("watch", tmp_path / "in", "--bundle", bundle.path, "--journal", tmp_path / "j.sqlite", *more)


def rows(path: Path) -> list[dict[str, str]]:
    content = path.read_bytes()
    assert content.endswith(b"\n")
    return list(csv.DictReader(content.decode().splitlines()))


def fill(tmp_path: Path, count: int) -> None:
    (tmp_path / "in").mkdir(exist_ok=True)
    for number in range(count):
        (tmp_path / "in" / f"{number:03d}.png").write_bytes(png(number))


def test_the_command_answers_what_is_there_and_results_shows_it(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path
) -> None:
    fill(tmp_path, 4)
    (tmp_path / "in/bad.png").write_bytes(png(0)[:50])
    once = words(tmp_path, colour_bundle, "--once", "--out", "r.csv")
    done = edge_all(*once)
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 4 and "bad.png: no whole image yet" in done.stderr
    done = edge_all(*once, "--incomplete", 0)
    assert done.returncode == 1 and done.stdout.startswith("-") and "0 ok, 0 refer, 0 unfamiliar, 1 ref" in done.stderr
    assert edge_all(*once, "--incomplete", 0).returncode == 0
    table = rows(tmp_path / "r.csv")
    assert [row["id"] for row in table] == list("12345") and table[0]["label"] == "Réd" and table[4]["error"]
    shown = ("results", "--journal", tmp_path / "j.sqlite")
    assert len(edge_all(*shown).stdout.splitlines()) == 5
    answers = [json.loads(line) for line in edge_all(*shown, "--json", "--since", "1h").stdout.splitlines()]
    assert [answer["status"] for answer in answers] == ["ok"] * 4 + ["refused"]
    assert answers[0]["bundle_digest"] == colour_bundle.digest and len(answers[0]["sha256"]) == 64
    listed = list(csv.DictReader(edge_all(*shown, "--csv").stdout.splitlines()))
    assert [row["sha256"] for row in listed] == [answer["sha256"] for answer in answers]
    counts = json.loads(edge_all(*shown, "--counts", "--json").stdout)
    assert counts == {"refer": 0, "unfamiliar": 0, "refused": 1, "Blue": 1, "Green": 1, "Réd": 2}
    assert edge_all(*shown, "--since", "2099-01-01").stdout == ""
    assert edge_all(*shown, "--since", "soon").returncode == 2
    assert "no journal yet" in edge_all("results", "--journal", "none").stderr


def test_reviewed_images_are_exported_into_class_folders(
    edge_all: Command, colour_bundle: Bundle, tmp_path: Path
) -> None:
    fill(tmp_path, 4)
    edge_all(*words(tmp_path, colour_bundle, "--once"))
    with Journal.open(tmp_path / "j.sqlite") as journal:
        for number, label in ((1, "Réd"), (2, "Blue"), (3, "Blue"), (4, "")):
            journal.review(number, label)
    (tmp_path / "in/002.png").write_bytes(png(9))
    (tmp_path / "out/Blue").mkdir(parents=True)
    (tmp_path / "out/Blue/001.png").write_bytes(b"somebody's")
    export = ("results", "--journal", tmp_path / "j.sqlite", "--export", "out")
    done = edge_all(*export)
    assert done.returncode == 1 and "002.png: holds another image" in done.stderr
    assert (
        "2 copied to out, 0 there already, 1 not found as answered, 1 of no class left out, of 4 reviewed"
        in done.stderr
    )
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert found == {"Réd/000.png", "Blue/001.png", "Blue/001-2.png"}
    assert (tmp_path / "out/Blue/001-2.png").read_bytes() == png(1)
    assert "0 copied to out, 2 there already, 1 not found" in edge_all(*export).stderr
    assert "reviewed: no class" in edge_all("results", "--journal", "j.sqlite").stdout
    counts = json.loads(edge_all("results", "--journal", "j.sqlite", "--counts", "--json").stdout)
    assert counts["no class"] == 1


def test_images_of_a_session_are_exported_together(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    fill(tmp_path, 2)
    with Journal.open(tmp_path / "j.sqlite") as journal:
        session = journal.start_session("smear 7").id
        edge_all(*words(tmp_path, colour_bundle, "--once"))
        for number, label in ((1, "Réd"), (2, "Blue")):
            journal.review(number, label)
    assert edge_all("results", "--journal", "j.sqlite", "--export", "out").returncode == 0
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    assert found == {f"Réd/session {session}/000.png", f"Blue/session {session}/001.png"}
    class_folders.check_layout(tmp_path / "out", list((tmp_path / "out").iterdir()))


def test_the_table_is_mended_and_never_another_file(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    fill(tmp_path, 3)
    once = words(tmp_path, colour_bundle, "--once", "--out", "r.csv")
    edge_all(*once)
    whole = (tmp_path / "r.csv").read_bytes()
    for length in (0, 20, whole.index(b"\n") + 1, len(whole) - 200, len(whole) - 1):
        (tmp_path / "r.csv").write_bytes(whole[:length])
        assert edge_all(*once).returncode == 0
        assert (tmp_path / "r.csv").read_bytes() == whole
    for other in (b"file,label\n", b"notes without an end", whole + b"mine\n"):
        (tmp_path / "r.csv").write_bytes(other)
        edge_all(*once)
        assert (tmp_path / "r.csv").read_bytes() == other


def test_the_table_is_made_good_when_it_can_be_written_again(tmp_path: Path) -> None:
    told: list[str] = []
    with Journal.open(tmp_path / "j.sqlite") as journal:
        table = Appended(tmp_path / "away/r.csv", journal, [tmp_path], ["Pre"], Notices(told.append))
        journal.add(Entry(str(tmp_path / "a.png"), "a" * 64, 1, "ok", "Pre", "Pre", {"Pre": 1.0}))
        journal.add(Entry(str(tmp_path.parent / "b.png"), "b" * 64, 1, "ok", "Pre", "Pre", {"Pre": 1.0}))
        table.update()
        table.retry()
        assert len(told) == 1 and "the journal has every answer" in told[0]
        (tmp_path / "away").mkdir()
        table.retry()
        assert [row["file"] for row in rows(tmp_path / "away/r.csv")] == [str(tmp_path / "a.png")] and len(told) == 2


def test_a_damaged_journal_at_the_start_is_put_aside(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    fill(tmp_path, 2)
    (tmp_path / "j.sqlite").write_bytes(b"\0" * 9000)
    done = edge_all(*words(tmp_path, colour_bundle, "--once"))
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2 and "the journal is damaged" in done.stderr
    assert [path.stat().st_size for path in tmp_path.glob("j.sqlite.damaged-*")] == [9000]


def test_a_folder_that_is_not_there_is_a_mistake(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    done = edge_all(*words(tmp_path, colour_bundle))
    assert done.returncode == 1 and "there is no such folder" in done.stderr


def begin(tmp_path: Path, bundle: Bundle, *more: object) -> subprocess.Popen[str]:
    command = [PROGRAM, *map(str, words(tmp_path, bundle, "--poll", 0.05, *more))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)


@posix
def test_kills_at_any_moment_lose_and_repeat_nothing(edge_all: Command, colour_bundle: Bundle, tmp_path: Path) -> None:
    chance = random.Random(5)
    fill(tmp_path, 60)
    answered = 0
    for attempt in range(4):
        child = begin(tmp_path, colour_bundle, "--out", "r.csv", "--move")
        assert child.stdout
        for _ in range(chance.randrange(1, 15)):  # it has then answered some
            answered += bool(child.stdout.readline())
        time.sleep(chance.random() * 0.02)
        child.kill()
        child.communicate()
        (tmp_path / "in" / f"late{attempt}.png").write_bytes(png(100 + attempt))
    assert answered > 4
    edge_all(*words(tmp_path, colour_bundle, "--once", "--out", "r.csv", "--move"))
    with Journal.open(tmp_path / "j.sqlite", create=False) as journal:
        entries = journal.entries()
    wanted = {hashlib.sha256(png(number)).hexdigest() for number in [*range(60), *range(100, 104)]}
    assert len(entries) == 64 and {entry.sha256 for entry in entries} == wanted
    assert [int(row["id"]) for row in rows(tmp_path / "r.csv")] == [entry.id for entry in entries]
    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert sorted(map(str, files)) == sorted(entry.file for entry in entries)
    assert all(path.parent.name == entry.label for entry in entries for path in [Path(entry.file)])


@posix
def test_two_processes_share_a_folder_and_a_table(colour_bundle: Bundle, tmp_path: Path) -> None:
    fill(tmp_path, 30)
    children = [begin(tmp_path, colour_bundle, "--once", "--out", "r.csv") for _ in range(2)]
    printed = [len(child.communicate(timeout=60)[0].splitlines()) for child in children]
    assert sum(printed) == 30 and [child.returncode for child in children] == [0, 0]
    assert [int(row["id"]) for row in rows(tmp_path / "r.csv")] == list(range(1, 31))


@posix
def test_a_signal_ends_it(colour_bundle: Bundle, tmp_path: Path) -> None:
    fill(tmp_path, 1)
    child = begin(tmp_path, colour_bundle)
    assert child.stdout and child.stdout.readline()
    start = time.monotonic()
    child.terminate()
    _, said = child.communicate(timeout=20)
    assert child.returncode == 143 and said.endswith("edge-all: interrupted\n") and time.monotonic() - start < 10
