"""A real server in a thread, on a free port, with a journal of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers_bundle import colour_picture, encoded

from edge_all.bundle import Bundle
from edge_all.classifier import start
from edge_all.journal import Journal
from edge_all.live import Live
from edge_all.serve import app, server
from edge_all.serve.records import Records
from edge_all.serve.security import Rules
from edge_all.serve.service import Service, shared
from edge_all.targets import EngineOptions

TOKEN = "a-token-that-nobody-guesses"


def picture(channel: int, seed: int = 0) -> bytes:
    """A picture for the bundle of `helpers_bundle`, as a PNG file."""
    return encoded(colour_picture(channel, seed), "PNG")


@contextmanager
def serving(bundle: Bundle, journal: Path, rules: Rules | None = None, given: list[str] | None = None) -> Iterator[str]:
    """Serve a bundle; the address is given while it does. What it says goes to `given`, or must be nothing."""
    rules = rules or Rules(rate=10_000, public=app.PUBLIC)
    listening = server.bind("127.0.0.1", 0)
    told: list[str] = [] if given is None else given
    load = lambda loaded: shared(start(loaded, EngineOptions()))  # noqa: E731
    with Journal.open(journal) as opened:
        service = Service(Live(bundle.path, load, told.append), told.append)
        records = Records(opened, told.append)
        running = server.Server(app.make(service, records, rules), service, records)
        thread = threading.Thread(target=running.start, args=(listening,))
        thread.start()
        try:
            until = time.monotonic() + 20
            while not running.started:
                assert thread.is_alive()
                assert time.monotonic() < until
                time.sleep(0.01)
            yield server.address("127.0.0.1", listening).rstrip("/")
        finally:
            running.should_exit = True
            thread.join(20)
    assert not thread.is_alive()
    assert given is not None or not told, told
