"""The journal: every answer of a watched folder or a server, and what people said about it, in one SQLite file.

An entry is on the disk when `Journal.add` returns. Several threads and processes may use one file at the same time.
What was answered once is not recorded again: the SHA-256 of an image's bytes decides.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edge_all import journal_file
from edge_all.clock import now
from edge_all.errors import JournalError
from edge_all.journal_entry import COLUMNS, NO_CLASS, NO_CLASS_COUNTED, STATUSES, Entry, Session, from_row, stored
from edge_all.progress import Tell

if TYPE_CHECKING:
    from edge_all.classifier import Classifier
    from edge_all.prediction import Prediction

__all__ = [
    "LONGEST_NAME",
    "NO_CLASS",
    "NO_CLASS_COUNTED",
    "STATUSES",
    "Entry",
    "Journal",
    "Session",
    "answered",
    "now",
    "refused",
]

LONGEST_NAME = 60
"""Characters that the name of a session may have."""


_AT_ONCE = 500


class Journal:
    """An open journal. All its methods raise `JournalError` where the file cannot be used."""

    def __init__(self, path: Path, connection: sqlite3.Connection, tell: Tell, create: bool) -> None:
        self.path = path
        self._create = create
        self._connection = connection
        self._identity = journal_file.identity(path)
        self._tell = tell
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path, *, tell: Tell = lambda line: None, create: bool = True) -> Journal:
        """Open a journal, and begin one where there is none.

        Args:
            path: Its file. One that is damaged is renamed, and a new one begun.
            tell: Says so.
            create: False opens only a journal that is there and whole.

        Raises:
            JournalError: It cannot be used, or a newer edge_all wrote it.
        """
        return cls(path, journal_file.connect(path, tell, create=create), tell, create)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def reopen(self) -> None:
        """Open the file again, after it was damaged or has vanished."""
        with self._lock:
            self.close()
            self._connection = journal_file.connect(self.path, self._tell, create=self._create)
            self._identity = journal_file.identity(self.path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other writers out, of this process and of others, for a block."""
        with self._lock:
            self._follow()
            with journal_file.explained(self.path), journal_file.transaction(self._connection):
                yield

    def add(self, entry: Entry) -> Entry | None:
        """Record an answer; it is on the disk when this returns.

        Args:
            entry: With `id` 0. Its `session` becomes the one that is open.

        Returns:
            The entry as recorded; None where an image of the same bytes is answered already, or was refused and is
            refused again.
        """
        if entry.status not in STATUSES:
            raise JournalError(f"status {entry.status!r} does not exist; wanted one of {', '.join(STATUSES)}")
        with self.exclusive():
            earlier = self.by_digest(entry.sha256) if entry.sha256 else None
            if earlier and earlier.status != "refused":
                return None
            entry = replace(entry, time=entry.time or now(), session=entry.session or self._open_session())
            values = {name: stored(value) for name, value in vars(entry).items() if name != "id"}
            done = self._connection.execute(
                f"INSERT OR IGNORE INTO entries ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                tuple(values.values()),
            )
            return replace(entry, id=done.lastrowid or 0) if done.rowcount else None

    def entry(self, number: int) -> Entry:
        """The entry of this id.

        Raises:
            JournalError: There is none.
        """
        found = self._select("WHERE id = ?", number)
        if not found:
            raise JournalError(f"{self.path}: there is no entry {number}")
        return found[0]

    def by_digest(self, sha256: str) -> Entry | None:
        """The answer for an image of these bytes, else its refusal, else None."""
        found = self._select("WHERE sha256 = ? AND sha256 <> '' ORDER BY status = 'refused', id LIMIT 1", sha256)
        return found[0] if found else None

    def by_file(self, file: str, size: int, mtime_ns: int) -> Entry | None:
        """The last entry for a file that was read and has not changed since, by its size and time of modification."""
        where = "WHERE file = ? AND bytes = ? AND mtime_ns = ? AND sha256 <> '' ORDER BY id DESC LIMIT 1"
        found = self._select(where, stored(file), size, mtime_ns)
        return found[0] if found else None

    def last_run(self, bundle_digest: str) -> Entry | None:
        """The last entry of a bundle that ends a run of fields."""
        where = "WHERE bundle_digest = ? AND drift IS NOT NULL ORDER BY id DESC LIMIT 1"
        found = self._select(where, bundle_digest)
        return found[0] if found else None

    def entries(  # noqa: PLR0913 - one argument a filter
        self,
        *,
        since: str | None = None,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        session: int | None = None,
        status: str | None = None,
        unreviewed: bool = False,
        newest_first: bool = False,
    ) -> list[Entry]:
        """Entries in the order in which they were added.

        Args:
            since: Not older than this time, in ISO 8601 (UTC), or the beginning of one such as ``2026-11-25``.
            after: With a higher id than this.
            before: With a lower id than this.
            limit: At most so many.
            session: Of this session.
            status: Of this status.
            unreviewed: Answered, and not reviewed.
            newest_first: In the reverse order.
        """
        asked = {"time >= ?": since, "id > ?": after or None, "id < ?": before, "session = ?": session}
        asked["status = ?"] = status
        given = {condition: value for condition, value in asked.items() if value is not None}
        conditions = [*given, *["review IS NULL AND status <> 'refused'"] * unreviewed]
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = f"{where} ORDER BY id {'DESC' if newest_first else ''} LIMIT ?"
        return self._select(order, *given.values(), -1 if limit is None else limit)

    def each(self, *, since: str | None = None, after: int = 0) -> Iterator[Entry]:
        """Entries as `entries` gives them, a few at a time, so that a journal of any size takes little memory."""
        while some := self.entries(since=since, after=after, limit=_AT_ONCE):
            yield from some
            after = some[-1].id

    def review(self, number: int, label: str | None) -> Entry:
        """Record what a person says about an answer.

        Args:
            number: The entry's id.
            label: One of its classes, or `NO_CLASS` where it shows none of them; None takes back what was said.

        Raises:
            JournalError: There is no such entry, it was refused, or it has no such class.
        """
        with self.exclusive():
            entry = self.entry(number)
            allowed = {*entry.probabilities, NO_CLASS} if entry.probabilities else ()
            if label is not None and label not in allowed:
                wanted = ", ".join(entry.probabilities) or "none, for it was refused"
                raise JournalError(f"entry {number}: {label!r} is none of its classes; wanted one of: {wanted}")
            entry = replace(entry, review=label, review_time=None if label is None else now())
            self._connection.execute(
                "UPDATE entries SET review = ?, review_time = ? WHERE id = ?", (label, entry.review_time, number)
            )
        return entry

    def moved(self, number: int, file: str) -> None:
        """Record where an entry's image is now."""
        with self.exclusive():
            self._connection.execute("UPDATE entries SET file = ? WHERE id = ?", (stored(file), number))

    def counts(self, *, since: str | None = None, session: int | None = None) -> dict[str, int]:
        """How many entries have each label, the reviewed one before the answered one.

        What nobody has reviewed counts as ``refer``, ``unfamiliar`` or ``refused`` where that is its status, and what
        was found to show none of the classes as `NO_CLASS_COUNTED`.
        """
        counted: Counter[str] = Counter(dict.fromkeys(STATUSES[1:], 0))
        for review, status, label, count in self._rows(
            "SELECT review, status, label, count(*) FROM entries WHERE time >= ? AND (? IS NULL OR session = ?) "
            "GROUP BY review, status, label",
            since or "",
            session,
            session,
        ):
            answered = label if status == "ok" else status
            counted[answered if review is None else review or NO_CLASS_COUNTED] += count
        return dict(counted)

    def start_session(self, name: str) -> Session:
        """Begin a session; one that is open ends.

        Raises:
            JournalError: The name is empty, too long, or has control characters.
        """
        name = name.strip()
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise JournalError(f"session {name[:80]!r}: wanted 1 to {LONGEST_NAME} characters, no control characters")
        with self.exclusive():
            begun = now()
            self._connection.execute("UPDATE sessions SET ended = ? WHERE ended IS NULL", (begun,))
            done = self._connection.execute("INSERT INTO sessions (name, begun) VALUES (?, ?)", (name, begun))
            return Session(done.lastrowid or 0, name, begun, None)

    def end_session(self, number: int) -> Session:
        """End a session; one that has ended stays as it is.

        Raises:
            JournalError: There is none of this id.
        """
        with self.exclusive():
            self._connection.execute("UPDATE sessions SET ended = ? WHERE id = ? AND ended IS NULL", (now(), number))
            found = next((session for session in self.sessions() if session.id == number), None)
        if not found:
            raise JournalError(f"{self.path}: there is no session {number}")
        return found

    def sessions(self) -> list[Session]:
        """All sessions, the newest first."""
        return [Session(*row) for row in self._rows("SELECT id, name, begun, ended FROM sessions ORDER BY id DESC")]

    def _follow(self) -> None:
        """Open the file again if another one has its name, for a process that found it damaged has begun anew."""
        if not self._connection.in_transaction and journal_file.identity(self.path) != self._identity:
            self.reopen()

    def _open_session(self) -> int | None:
        found = self._rows("SELECT max(id) FROM sessions WHERE ended IS NULL")
        return found[0][0] if found else None

    def _select(self, rest: str, *values: object) -> list[Entry]:
        return [from_row(row) for row in self._rows(f"SELECT {', '.join(COLUMNS)} FROM entries {rest}", *values)]

    def _rows(self, statement: str, *values: object) -> list[Any]:
        with self._lock, journal_file.explained(self.path):
            self._follow()
            return self._connection.execute(statement, values).fetchall()


def answered(classifier: Classifier, file: str, size: int, prediction: Prediction) -> Entry:
    """The entry for an answer that was given with ``digest=True``, before it is added.

    Args:
        classifier: What has just answered.
        file: Name of the image.
        size: How many bytes it has.
        prediction: The answer.
    """
    return Entry(**{"file": file, "bytes": size, **cast(dict[str, Any], classifier.trace(prediction))})


def refused(classifier: Classifier, file: str, data: bytes | None, error: str) -> Entry:
    """The entry for what cannot be classified, before it is added.

    Args:
        classifier: What would have answered.
        file: Name of the image.
        data: Its bytes; None if they cannot be read.
        error: What is wrong with it.
    """
    sha256 = "" if data is None else hashlib.sha256(data).hexdigest()
    origin = cast(dict[str, Any], classifier.origin())
    return Entry(
        **{"file": file, "sha256": sha256, "bytes": len(data or b""), "status": "refused", "error": error, **origin}
    )
