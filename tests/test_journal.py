"""The journal: nothing lost, nothing twice, whatever happens to the file or to the clock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_all import journal, journal_file
from edge_all.errors import JournalError
from edge_all.journal import NO_CLASS, Entry, Journal

ANSWER = Entry(
    "a.png", "a" * 64, 10, "ok", "Pro", "Pro", {"Pre": 0.1, "Pro": 0.9}, 0.3, 0.5, bundle="b", bundle_digest="d" * 64,
    target="cpu", precision="int8", version="1", engine="e", ms=2.5, mtime_ns=7,
)  # fmt: skip


def answer(number: int, **changes: object) -> Entry:
    return replace(ANSWER, file=f"{number}.png", sha256=f"{number:064x}", **changes)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.sqlite"


def test_an_entry_comes_back_as_it_was_recorded(path: Path) -> None:
    strange = replace(ANSWER, file="R\udce9d\n.png", sha256="b" * 64, unfamiliarity=None)
    with Journal.open(path) as opened:
        first, second = opened.add(ANSWER), opened.add(strange)
        assert first and second and first.time <= second.time and second.id == first.id + 1
    with Journal.open(path) as opened:
        assert opened.entries() == [first, second] and opened.entry(1) == first
        assert replace(second, id=0, time="") == strange
        assert opened.by_file("R\udce9d\n.png", 10, 7) == second and opened.by_file("a.png", 10, 8) is None
        with pytest.raises(JournalError, match="no entry 3"):
            opened.entry(3)


def test_the_bytes_of_an_image_are_answered_once(path: Path) -> None:
    refusal = replace(ANSWER, status="refused", label=None, top=None, probabilities={}, error="damaged")
    with Journal.open(path) as opened, Journal.open(path) as other:
        assert opened.add(refusal) and not other.add(replace(refusal, file="b.png"))
        assert other.add(ANSWER) and not opened.add(replace(ANSWER, file="b.png")) and not opened.add(refusal)
        assert [entry.status for entry in opened.entries()] == ["refused", "ok"]
        assert (found := opened.by_digest(ANSWER.sha256)) and found.status == "ok"
        unread = replace(refusal, sha256="", error="cannot be read")
        assert opened.add(unread) and not opened.add(unread) and opened.add(replace(unread, file="c.png"))
        assert opened.by_digest("") is None


def test_entries_are_chosen_and_counted(path: Path) -> None:
    with Journal.open(path) as opened:
        opened.add(answer(1, time="2026-01-02T00:00:00.000Z"))
        opened.add(answer(2, time="2026-01-01T00:00:00.000Z", status="refer"))  # the clock went back
        session = opened.start_session(" smear 7 ")
        opened.add(answer(3, status="unfamiliar", label=None))
        opened.add(answer(4, status="refused", label=None, probabilities={}))
        assert [entry.id for entry in opened.entries()] == [1, 2, 3, 4]
        assert [entry.id for entry in opened.entries(since="2026-01-02", newest_first=True, limit=2)] == [4, 3]
        assert [entry.id for entry in opened.entries(after=1, before=4, status="refer")] == [2]
        assert [entry.id for entry in opened.entries(session=session.id)] == [3, 4]
        assert opened.counts() == {"Pro": 1, "refer": 1, "unfamiliar": 1, "refused": 1}
        opened.review(2, "Pre")
        assert opened.counts() == {"Pro": 1, "Pre": 1, "refer": 0, "unfamiliar": 1, "refused": 1}
        assert opened.counts(session=session.id) == {"refer": 0, "unfamiliar": 1, "refused": 1}
        assert [entry.id for entry in opened.entries(unreviewed=True)] == [1, 3]


def test_a_review_is_one_of_the_classes_and_can_be_taken_back(path: Path) -> None:
    with Journal.open(path) as opened:
        opened.add(ANSWER)
        assert opened.review(1, "Pre").review == "Pre"
        assert (entry := opened.entry(1)).label == "Pro" and entry.review_time
        assert opened.review(1, None).review_time is None and opened.entry(1).review is None
        with pytest.raises(JournalError, match="'Other' is none of its classes; wanted one of: Pre, Pro"):
            opened.review(1, "Other")
        assert opened.review(1, NO_CLASS).review_time and opened.entry(1).review == NO_CLASS
        assert opened.entries(unreviewed=True) == []
        assert opened.counts() == {"refer": 0, "unfamiliar": 0, "refused": 0, "no class": 1}
        opened.add(answer(4, status="refused", label=None, probabilities={}))
        with pytest.raises(JournalError, match="none, for it was refused"):
            opened.review(2, NO_CLASS)


def test_an_older_form_is_brought_to_this_one_and_keeps_its_entries(path: Path) -> None:
    with Journal.open(path) as opened:
        opened.add(ANSWER)
    with closing(sqlite3.connect(path)) as connection:
        for added_since in ("drift", "reason"):
            connection.execute(f"ALTER TABLE entries DROP COLUMN {added_since}")
        connection.execute("PRAGMA user_version = 1")
    with Journal.open(path, create=False) as opened:
        assert opened.review(1, NO_CLASS).sha256 == ANSWER.sha256
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == journal_file.SCHEMA


def test_one_session_at_a_time(path: Path) -> None:
    with Journal.open(path) as opened:
        first = opened.start_session("a")
        second = opened.start_session("b")
        assert (added := opened.add(ANSWER)) and added.session == second.id
        assert opened.end_session(second.id).ended
        assert [(s.name, s.ended is None) for s in opened.sessions()] == [("b", False), ("a", False)]
        assert (added := opened.add(answer(2))) and added.session is None
        for name in ("", "  ", "x" * 61, "a\nb", "a\x1bb", "a\u202eb"):
            with pytest.raises(JournalError, match="wanted 1 to 60 characters"):
                opened.start_session(name)
        with pytest.raises(JournalError, match="no session 9"):
            opened.end_session(9)
    assert first.id != second.id


def test_threads_and_connections_lose_and_repeat_nothing(path: Path) -> None:
    added: list[int] = []

    def work(opened: Journal) -> None:
        for number in range(40):
            if (entry := opened.add(answer(number))) is not None:
                added.append(entry.id)

    with Journal.open(path) as one, Journal.open(path) as two:
        threads = [threading.Thread(target=work, args=(opened,)) for opened in (one, one, two, two)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(added) == [entry.id for entry in one.entries()]
        assert {entry.sha256 for entry in two.entries()} == {answer(number).sha256 for number in range(40)}
        assert len(added) == 40


def test_what_was_added_is_there_after_a_kill(path: Path) -> None:
    program = f"""
import os, sys
from edge_all.journal import NO_CLASS, Entry, Journal
with Journal.open(__import__("pathlib").Path({str(path)!r})) as opened:
    for number in range(5):
        opened.add(Entry("x", f"{{number:064x}}", 1, "ok"))
    with opened.exclusive():
        opened._connection.execute("DELETE FROM entries")
        os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 9
    with Journal.open(path) as opened:
        assert len(opened.entries()) == 5


def test_a_damaged_file_is_put_aside_and_said(path: Path) -> None:
    with Journal.open(path) as opened:
        for number in range(300):
            opened.add(answer(number))
    content = bytearray(path.read_bytes())
    pages = len(content) // 4096
    for page in range(2, pages):
        content[page * 4096 : page * 4096 + 512] = b"\xff" * 512
    path.write_bytes(content)
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(path, create=False)
    told: list[str] = []
    with Journal.open(path, tell=told.append) as opened:
        assert opened.entries() == [] and opened.add(ANSWER)
    (aside,) = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == content and len(told) == 1 and aside.name in told[0]
    path.write_bytes(b"\0" * 5000)
    with Journal.open(path, tell=told.append) as opened:
        assert opened.add(ANSWER)
    assert len(told) == 2 and len(list(path.parent.glob("*.damaged-*[0-9Z]"))) == 2


def test_no_other_file_is_taken_for_a_journal(tmp_path: Path) -> None:
    table, other, newer = tmp_path / "results.csv", tmp_path / "other.db", tmp_path / "newer.sqlite"
    table.write_text("file,label\n" * 500)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE own (x)")
    connection.close()
    Journal.open(newer).close()
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {journal_file.SCHEMA + 1}")
    connection.close()
    for path, reason in ((table, "no journal"), (other, "another program's database"), (newer, "a newer edge_all")):
        before = path.read_bytes()
        with pytest.raises(JournalError, match=reason) as caught:
            Journal.open(path)
        assert len(str(caught.value).splitlines()) == 1 and path.read_bytes() == before
    with pytest.raises(JournalError, match="no journal yet"):
        Journal.open(tmp_path / "none.sqlite", create=False)
    with pytest.raises(JournalError, match="cannot be used"):
        Journal.open(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir() if "-" not in file.name) == [
        "newer.sqlite",
        "other.db",
        "results.csv",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps an open file")
def test_a_journal_that_vanishes_is_begun_again(path: Path) -> None:
    with Journal.open(path) as opened:
        opened.add(ANSWER)
        for file in path.parent.iterdir():
            file.rename(path.parent.parent / file.name)
        with Journal.open(path) as other:
            assert other.add(answer(2)) and opened.entries() == other.entries()
            assert opened.add(answer(3)) and [entry.file for entry in other.entries()] == ["2.png", "3.png"]


def test_the_default_is_a_file_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    default = journal_file.default()
    assert default.is_relative_to(tmp_path) and default.parts[-2:] == ("edge-all", "journal.sqlite")
    assert not os.listdir(tmp_path) and journal.now().endswith("Z") and len(journal.now()) == 24


def test_a_journal_that_another_process_begins_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two first watchers: the second makes its tables while the first looks at what it has opened."""
    path, real, waiting = tmp_path / "journal.sqlite", sqlite3.connect, ["the other one"]

    class Raced(sqlite3.Connection):
        def execute(self, statement: str, *rest: Any) -> sqlite3.Cursor:
            if "sqlite_schema" in statement and waiting and waiting.pop():
                other = real(path, timeout=0.1, isolation_level=None)
                with closing(other), suppress(sqlite3.OperationalError):  # it has to wait
                    journal_file._make_tables(other)
            return super().execute(statement, *rest)

    monkeypatch.setattr(sqlite3, "connect", lambda *words, **options: real(*words, **options, factory=Raced))
    with closing(journal_file.connect(path, lambda line: pytest.fail(line))) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone() == (0,) and not waiting


def test_a_write_ahead_log_that_another_process_begins_meanwhile(path: Path) -> None:
    """SQLite does not wait by itself for who holds the file while this log is begun."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("PRAGMA application_id = 0")
        ended = threading.Timer(0.5, lambda: other.execute("ROLLBACK"))
        ended.start()
        with closing(journal_file.connect(path, lambda line: pytest.fail(line))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        ended.join()
