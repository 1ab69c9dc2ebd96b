"""Folders that are watched: each image is answered once, when it is whole, and recorded before anything else happens.

The bytes that are read are those that are hashed and classified, and the file is compared with what it was before: one
that changed meanwhile is taken again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_all import filing, image, journal, journal_file
from edge_all.arrivals import Arrivals, stamp
from edge_all.errors import EdgeAllError, ImageError, JournalError, TargetError
from edge_all.journal import Entry, Journal
from edge_all.live import Live
from edge_all.progress import Notices, Tell
from edge_all.wake import Wake

SORTED = ("refer", "unfamiliar", "refused")
"""Folders that images without a sure label are moved to; the others have the names of classes."""

_ENGINE_SECONDS = 5.0
"""After the engine failed, until it is asked again."""

_SHARE = 10
"""At most so small a part of the time goes into looking at all the folders, which takes long for very many files."""


@dataclass(frozen=True)
class Options:
    """How folders are watched.

    Attributes:
        poll: Look at least so often, in seconds.
        settle: A file is whole when it did not change for so long, in seconds.
        incomplete: A file that is no image then is refused when it did not change for so long, in seconds.
        move: Move each image into a folder of its label.
        once: End when all that is there is recorded, or is no whole image yet.
    """

    poll: float = 2.0
    settle: float = 0.2
    incomplete: float = 30.0
    move: bool = False
    once: bool = False


Report = Callable[[Entry], None]
"""Shows an entry that was recorded."""


class Watcher:
    """Watches folders. It is used by one thread.

    Attributes:
        folders: As absolute paths.
    """

    def __init__(
        self, folders: Sequence[Path], journal: Journal, live: Live, options: Options, tell: Tell, report: Report
    ) -> None:
        """Prepare to watch.

        Args:
            folders: They, and the folders below them.
            journal: Where answers are recorded.
            live: What answers.
            options: How.
            tell: Says what is wrong, once.
            report: Shows an entry that was recorded.
        """
        self.folders = [Path(os.path.abspath(folder)) for folder in folders]
        self._journal, self._live, self._options, self._report = journal, live, options, report
        self._notices = Notices(tell)
        self._wake = Wake(self.folders, tell)
        self._arrivals = Arrivals(self.folders, options.settle, self._notices, self._wake.listen)
        self._sorted: set[Path] = set()
        self._next = 0.0

    @property
    def incomplete(self) -> list[Path]:
        """Files that are no whole images yet."""
        return [path for path, waiting in self._arrivals.waiting.items() if waiting.incomplete]

    def run(self, after: Callable[[], None] = lambda: None) -> None:
        """Watch until an exception ends it.

        Args:
            after: Called after each look, to do again what could not be done in a report.

        Raises:
            JournalError: With `once`, the journal cannot be written.
            TargetError: With `once`, the engine fails.
        """
        try:
            while True:
                self._look_and_repair()
                after()
                if self._options.once and len(self._arrivals.waiting) == len(self.incomplete):
                    return
                if self._notices.is_wrong(_JOURNAL):
                    time.sleep(min(self._options.poll, 1.0))
                    continue
                self._wake.wait(self._arrivals.pause(max(self._next - time.monotonic(), 0.001)))
        finally:
            self._wake.close()

    def _look_and_repair(self) -> None:
        try:
            self.look()
        except JournalError as error:
            if self._options.once:
                raise
            self._notices.say(_JOURNAL, f"{error}; trying again: no image is taken until then")
            self._repair(error)
        else:
            self._notices.well(_JOURNAL, f"{self._journal.path}: the journal can be used again")

    def look(self) -> None:
        """Record the files that are whole, the oldest first.

        All folders are looked at when it is time, or when folders have come or gone; else only the files that the
        system told of.

        Raises:
            JournalError: The journal cannot be used; no file is lost by that.
            TargetError: With `once`, the engine fails.
        """
        if self._options.move:
            labels = {*SORTED, *self._live.classifier.bundle.classes}
            self._sorted |= {root / filing.folder_name(label) for root in self.folders for label in labels}
        changes = self._wake.changes()
        start = time.monotonic()
        if changes.folders or start >= self._next:
            self._arrivals.look(self._sorted)
            took = time.monotonic() - start
            self._next = start + max(self._options.poll, _SHARE * took)
        self._arrivals.told(changes.files, self._sorted)
        for path in self._arrivals.due():
            self._take(path)

    def _take(self, path: Path) -> None:
        """Record a file that seems whole.

        Raises:
            JournalError: The journal cannot be used.
            TargetError: With `once`, the engine fails.
        """
        waiting = self._arrivals.waiting[path]
        size, mtime_ns, _ = waiting.stamp
        if entry := self._journal.by_file(str(path), size, mtime_ns):
            self._finish(path, entry)
            return
        try:
            data = image.read_bytes(path)
        except ImageError as error:
            self._unreadable(path, str(error))
            return
        now = stamp(path)
        if now != waiting.stamp or len(data) != size:  # it is being written, or was replaced
            if now:
                self._arrivals.changed(path, waiting.root, now)
            else:
                self._arrivals.gone(path)
            return
        sha256 = hashlib.sha256(data).hexdigest()
        known = self._journal.by_digest(sha256)
        if known and known.status != "refused":
            self._finish(path, known)
            return
        self._answer(path, data, sha256)

    def _answer(self, path: Path, data: bytes, sha256: str) -> None:
        waiting = self._arrivals.waiting[path]
        self._live.refresh()
        classifier = self._live.classifier
        try:
            prediction = replace(classifier.classify(data), sha256=sha256)
        except ImageError as error:
            waiting.incomplete = True
            waiting.due = waiting.since + self._options.incomplete
            if waiting.due <= time.monotonic():
                refusal = journal.refused(classifier, str(path), data, str(error))
                self._finish(path, self._record(path, refusal))
        except TargetError as error:
            if self._options.once:
                raise
            self._notices.say(_ENGINE, f"{path}: {error}; trying again")
            waiting.due = time.monotonic() + _ENGINE_SECONDS
        else:
            self._notices.well(_ENGINE)
            drift = self._live.runs.add(str(waiting.root), classifier.bundle, prediction.deviation)
            entry = replace(journal.answered(classifier, str(path), len(data), prediction), drift=drift)
            self._finish(path, self._record(path, entry))

    def _unreadable(self, path: Path, error: str) -> None:
        """A file that cannot be read may be readable later, for a network can fail; it is recorded after a while."""
        waiting = self._arrivals.waiting[path]
        if not os.path.lexists(path):
            self._arrivals.gone(path)
            return
        if waiting.incomplete:
            refusal = journal.refused(self._live.classifier, str(path), None, error)
            self._record(path, refusal)
        waiting.incomplete = True
        waiting.due = time.monotonic() + self._options.incomplete

    def _record(self, path: Path, entry: Entry) -> Entry | None:
        size, mtime_ns, _ = self._arrivals.waiting[path].stamp
        added = self._journal.add(replace(entry, bytes=size, mtime_ns=mtime_ns))
        if added:
            self._report(added)
        return added or self._journal.by_digest(entry.sha256)

    def _finish(self, path: Path, entry: Entry | None) -> None:
        """Be done with a file, which is recorded; it is moved if that is wanted."""
        waiting = self._arrivals.waiting[path]
        self._arrivals.done(path)
        if not (self._options.move and entry) or path.is_symlink() or stamp(path) != waiting.stamp:
            return
        label = entry.label if entry.status == "ok" and entry.label else entry.status
        folder, number, place = waiting.root / filing.folder_name(label), entry.id, Path(entry.file)

        def moved(target: Path) -> None:
            if place == path or not place.exists():
                self._journal.moved(number, str(target))

        try:
            filing.move(path, folder, moved)
        except OSError as error:
            if not os.path.lexists(path):  # another watcher was quicker
                return
            self._notices.say(path, f"{path}: cannot be moved to {folder}: {error.strerror or error}; it stays there")

    def _repair(self, error: JournalError) -> None:
        """Begin a new journal in place of a damaged one; what lies in the folders is then answered again."""
        if journal_file.is_damage(error):
            try:
                self._journal.reopen()
            except EdgeAllError as again:
                self._notices.say(_JOURNAL, f"{again}; trying again: no image is taken until then")
            else:
                self._arrivals.again()


_JOURNAL, _ENGINE = "journal", "engine"
"""What a notice can be about, beside files and folders."""
