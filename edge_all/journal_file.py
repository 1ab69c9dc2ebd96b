"""The SQLite file of a journal: where it is, its form, and how it is opened, checked and, if damaged, put aside."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from edge_all import places
from edge_all.errors import JournalError
from edge_all.progress import Tell

SCHEMA = 4
"""Version of the form; it is SQLite's ``user_version``. An older form is brought to this one when it is opened."""

_UPGRADES = {
    1: (),
    2: ("ALTER TABLE entries ADD COLUMN drift REAL",),
    3: ("ALTER TABLE entries ADD COLUMN reason TEXT",),
}
"""Statements that make the next form of each. Form 2 may hold the review `edge_all.journal.NO_CLASS`, which the readers
of form 1 would take for the name of a class."""

_APPLICATION = 0x65646761
"""SQLite's ``application_id``, by which a journal is told from another program's file: "edga"."""

_SUFFIXES = frozenset({".sqlite", ".sqlite3", ".db"})
"""A file of such a name that is no database is taken for a damaged journal; any other is somebody's file."""

_BUSY_SECONDS = 10.0
"""How long one writer waits for another."""

_TABLES = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, begun TEXT NOT NULL, ended TEXT
);
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, file NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, time TEXT NOT NULL, label TEXT, status TEXT NOT NULL, top TEXT,
    probabilities TEXT NOT NULL, unfamiliarity REAL, threshold REAL NOT NULL, error NOT NULL, bundle TEXT NOT NULL,
    bundle_digest TEXT NOT NULL, target TEXT NOT NULL, precision TEXT NOT NULL, version TEXT NOT NULL,
    engine TEXT NOT NULL, ms REAL NOT NULL, review TEXT, review_time TEXT, session INTEGER REFERENCES sessions,
    drift REAL, reason TEXT
);
CREATE UNIQUE INDEX one_answer ON entries (sha256, status = 'refused') WHERE sha256 <> '';
CREATE UNIQUE INDEX one_refusal ON entries (file, error) WHERE sha256 = '';
CREATE INDEX by_file ON entries (file);
CREATE INDEX by_time ON entries (time);
"""


def default() -> Path:
    """The user's journal: ``journal.sqlite`` in ``edge-all`` in the user's folder for data.

    Raises:
        JournalError: The user has no home.
    """
    folder = places.data()
    if folder is None:
        raise JournalError("the user has no home for the journal; give --journal FILE")
    return folder / "journal.sqlite"


def connect(path: Path, tell: Tell, *, create: bool = True) -> sqlite3.Connection:
    """Open a journal's file, and check that it is whole.

    Args:
        path: The file; it and its folder are made where they are missing.
        tell: Says that a damaged file was put aside.
        create: Whether to make a missing file, and to put a damaged one aside and begin a new one.

    Raises:
        JournalError: It cannot be opened or written, belongs to another program or to a newer edge_all; or it is
            missing or damaged, and `create` is false.
    """
    if not create and not path.exists():
        raise JournalError(f"{path}: there is no journal yet; `edge-all watch DIR` begins one, or give --journal FILE")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        seen = identity(path)
        try:
            return _open(path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            if not create:
                raise JournalError(
                    f"{path}: damaged ({error}); the next `edge-all watch` puts it aside and begins a new one"
                ) from None
            if identity(path) == seen:  # else another process has put it aside already
                _put_aside(path, str(error), tell)
        return _open(path)


def identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of its name; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the disk into one line.

    Raises:
        JournalError: The block raised one.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise JournalError(
            f"{path}: the journal cannot be used: {reason}; wanted a file on a local disk that can be written"
        ) from error


def is_damage(error: JournalError) -> bool:
    """Whether an error of an open journal says that its file is damaged."""
    return isinstance(error.__cause__, sqlite3.DatabaseError) and _is_damage(error.__cause__)


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _open(path: Path) -> sqlite3.Connection:
    """Open a file, and make its tables where it is new.

    Raises:
        sqlite3.Error: It is damaged, or cannot be used.
        JournalError: It is none of ours, or of a newer edge_all.
    """
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        _check(path, connection)
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _make_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Keep a write-ahead log. Two processes that both begin it do not wait for each other by themselves."""
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    try:
        connection.execute("BEGIN")  # else another process may make its tables between two of these
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        if _is_damage(error) and path.suffix.lower() not in _SUFFIXES:
            raise JournalError(
                f"{path}: no journal; wanted a new name, or a file that `edge-all watch` began"
            ) from None
        raise
    if (application, version) == (0, 0) and not tables:
        return
    if application != _APPLICATION:
        raise JournalError(f"{path}: another program's database; wanted a new name, or a file of `edge-all watch`")
    if version > SCHEMA:
        raise JournalError(
            f"{path}: written in form {version}, and this edge_all knows up to {SCHEMA}: install a newer edge_all, "
            "or give another --journal"
        )
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        damage = sqlite3.DatabaseError(" ".join(verdict.split()))
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise damage


def _make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring them to the present form, in one transaction, unless another process was quicker."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA:
        return
    with transaction(connection):
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not version:
            for statement in filter(str.strip, _TABLES.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        for form in range(version or SCHEMA, SCHEMA):
            for statement in _UPGRADES[form]:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all of a block or nothing; no other process writes meanwhile.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _put_aside(path: Path, reason: str, tell: Tell) -> None:
    """Rename a damaged file, and what SQLite keeps beside it."""
    stem = f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    aside, count = path.with_name(stem), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{stem}-{count}")
    path.rename(aside)
    for ending in ("-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    tell(f"{path}: the journal is damaged ({reason}): it is now {aside.name}, and a new one is begun")
