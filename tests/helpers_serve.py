"""A real server in a thread, on a free port, with a journal of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from helpers_bundle import colour_picture, encoded

from edge_all.bundle import Bundle
from edge_all.camera import Source
from edge_all.classifier import start
from edge_all.journal import Journal
from edge_all.live import Live
from edge_all.progress import Tell
from edge_all.serve import app, server
from edge_all.serve.camera import Camera
from edge_all.serve.records import Records
from edge_all.serve.security import Rules
from edge_all.serve.service import Service, shared
from edge_all.targets import EngineOptions

TOKEN = "a-token-that-nobody-guesses"


def picture(channel: int, seed: int = 0) -> bytes:
    """A picture for the bundle of `helpers_bundle`, as a PNG file."""
    return encoded(colour_picture(channel, seed), "PNG")


def service_of(bundle: Bundle, tell: Tell) -> Service:
    """What answers for a bundle."""
    return Service(Live(bundle.path, lambda loaded: shared(start(loaded, EngineOptions())), tell), tell)


@contextmanager
def serving(
    bundle: Bundle,
    journal: Path,
    rules: Rules | None = None,
    camera: Callable[[], Source] | None = None,
    expected: Sequence[str] = (),
    said: list[str] | None = None,
) -> Iterator[str]:
    """Serve a bundle; the address is given while it does.

    Args:
        bundle: What answers.
        journal: File of the journal; frames of the camera are kept in a folder `frames` beside it.
        rules: Who may ask.
        camera: Opens a camera.
        expected: Words of the lines that are told, in order; there are no others.
        said: Gets these lines, which are then not looked at here.
    """
    rules = rules or Rules(rate=10_000, public=app.PUBLIC)
    listening = server.bind("127.0.0.1", 0)
    told: list[str] = [] if said is None else said
    with Journal.open(journal) as opened:
        service = service_of(bundle, told.append)
        records = Records(opened, told.append)
        seen = Camera(camera, journal.parent / "frames", service, records.hub) if camera else None
        running = server.Server(app.make(service, records, rules, camera=seen), service, records)
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
    if said is None:
        lines = zip(expected, told, strict=True)
        assert len(told) == len(expected) and all(words in line for words, line in lines), told
