"""The journal for the server: read and written in a thread of its own, followed for what others add to it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from edge_all import disk, image
from edge_all.errors import EdgeAllError, JournalError
from edge_all.journal import Entry, Journal
from edge_all.progress import Notices, Tell
from edge_all.serve.events import Hub

Result = TypeVar("Result")

_FOLLOW_SECONDS = 0.25
"""Between two looks for entries that a watched folder, here or in another process, has added."""

_KEPT_BYTES = 128_000_000
"""Images from requests that are kept in memory, so that they can be looked at for a review; they are in no file."""

_AT_ONCE = 200
"""Entries that are sent to the pages together."""


class Records:
    """A journal, the images of its entries, and its news.

    Attributes:
        hub: Where news are sent to.
    """

    def __init__(self, journal: Journal, tell: Tell) -> None:
        self._notices = Notices(tell)
        self.hub = Hub()
        self._journal = journal
        self._room = disk.Room(journal.path, self._notices)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._kept = _Kept()
        self._news = asyncio.Event()
        self._last = _newest(journal)

    async def ask(self, work: Callable[[Journal], Result]) -> Result:
        """Do something with the journal.

        Raises:
            JournalError: It cannot be done.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._journal)

    async def add(self, entry: Entry, data: bytes | None) -> int:
        """Record an answer for an image of a request.

        Args:
            entry: The answer.
            data: The image, to be kept in memory; None where it is in a file.

        Returns:
            The entry's id; of the earlier entry, if an image of these bytes was answered before.

        Raises:
            JournalError: It cannot be written, which is said once where the server runs.
        """
        if data is not None:
            self._kept.put(entry.sha256, data)
        try:
            added = await self.ask(lambda journal: journal.add(entry) or journal.by_digest(entry.sha256))
        except JournalError as error:
            self._notices.say("add", f"{error}; requests to record an answer get status 503 until then")
            raise
        self._notices.well("add", f"{self._journal.path}: answers are recorded again")
        self._news.set()
        return added.id if added else 0

    async def entry(self, number: int) -> Entry | None:
        """The entry of an id, if there is one."""
        found = await self.ask(lambda journal: journal.entries(after=number - 1, limit=1))
        return found[0] if found and found[0].id == number else None

    def image(self, entry: Entry) -> bytes | None:
        """The bytes of an entry's image, if they are still what was answered.

        Only a file that the journal has by its whole path is opened; images from requests have none.
        """
        data = self._kept.get(entry.sha256)
        if data is None and entry.sha256 and Path(entry.file).is_absolute():
            with suppress(EdgeAllError):
                data = image.read_bytes(Path(entry.file))
        same = data is not None and hashlib.sha256(data).hexdigest() == entry.sha256
        return data if same else None

    def disk_free(self) -> int | None:
        """Bytes free where the journal is."""
        return disk.free(self._journal.path)

    async def follow(self) -> None:
        """Send every new entry to the pages, until this is cancelled."""
        while True:
            self._room.look()
            try:
                for entry in await self.ask(self._new):
                    self._last = entry.id
                    self.hub.send("entry", as_json(entry))
                self._notices.well("journal")
            except Exception as error:  # it may go by, as a full disk does, and the pages must not stand still
                self._notices.say("journal", f"the pages get no new answers, and this goes on trying: {error}")
            with suppress(TimeoutError):
                async with asyncio.timeout(_FOLLOW_SECONDS):
                    await self._news.wait()
            self._news.clear()

    def _new(self, journal: Journal) -> list[Entry]:
        """What was added since the last look; all, where a new journal was begun in place of a damaged one."""
        if _newest(journal) < self._last:
            self._last = 0
        return journal.entries(after=self._last, limit=_AT_ONCE)

    def close(self) -> None:
        """Let all pages go, and end the thread."""
        self.hub.close()
        self._thread.shutdown(wait=True)


def _newest(journal: Journal) -> int:
    newest = journal.entries(limit=1, newest_first=True)
    return newest[0].id if newest else 0


def as_json(entry: Entry) -> dict[str, object]:
    """An entry as the API gives it."""
    values = asdict(entry)
    del values["mtime_ns"]
    return values


class _Kept:
    """The latest images of requests, up to so many bytes."""

    def __init__(self) -> None:
        self._images: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, sha256: str) -> bytes | None:
        return self._images.get(sha256)

    def put(self, sha256: str, data: bytes) -> None:
        self._bytes += len(data) - len(self._images.pop(sha256, b""))
        self._images[sha256] = data
        while self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._images.popitem(last=False)[1])
