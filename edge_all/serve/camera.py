"""The camera beside the server: a thread that reads its frames, answers those that are settled, and finds it again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from edge_all import image
from edge_all.camera import Frame, Source
from edge_all.camera.gate import Gate
from edge_all.errors import CameraError, TargetError
from edge_all.progress import Notices
from edge_all.serve.events import Hub
from edge_all.serve.pictures import small_jpeg
from edge_all.serve.service import Service

_REST_SECONDS = 0.055
"""From one frame to the next at least: of a camera with 30 a second every second one is taken, and with 15 all."""

_NEWS_SECONDS = 0.5
"""So often the pages hear of a camera that shows the same; a change comes at once."""

_WAIT_SECONDS = 0.25
"""At most so long the thread waits for a frame before it looks whether it is to end."""

_PICTURE_SECONDS = 1.0
"""So long a request waits for the next picture."""

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds until a lost camera is looked for again; each time twice as long."""

_CLOSE_SECONDS = 5.0
"""So long a driver may take to let its camera go when the server ends."""

_QUALITY = 80
"""Of a JPEG of the live view."""


@dataclass
class Figures:
    """Counts since the start.

    Attributes:
        frames: Frames looked at.
        settled: Frames that were still and in focus, each with an answer.
        seconds: From these frames' arrival to their label, together.
        kept: Frames that were kept.
        lost: How often the camera was lost.
    """

    frames: int = 0
    settled: int = 0
    seconds: float = 0.0
    kept: int = 0
    lost: int = 0


class Camera:
    """A camera, what it shows now, and what is answered to it. No answer here is in the journal.

    The thread rests at least as long as it works, so that it takes no more than half a core however slow the graph is.

    Attributes:
        keep: Folder for the frames that are kept.
        keeping: Held while one is kept.
        newest: The newest frame; None while there is no camera.
        figures: What was done so far.
    """

    def __init__(self, open_source: Callable[[], Source], keep: Path, service: Service, hub: Hub) -> None:
        """Prepare; `start` opens the camera.

        Args:
            open_source: Opens it, or raises `CameraError`; called again after it was lost.
            keep: Folder for the frames that are kept.
            service: What answers.
            hub: Where news are sent to.
        """
        self.keep, self.keeping = keep, asyncio.Lock()
        self.newest: Frame | None = None
        self.figures = Figures()
        self._open, self._service, self._hub = open_source, service, hub
        self._notices = Notices(service.tell)
        self._name, self._state, self._error = "", "opening", ""
        self._answer: dict[str, Any] | None = None
        self._said: tuple[object, ...] = ()
        self._said_at = 0.0
        self._pause = _FIRST_PAUSE
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[asyncio.Future[bytes]] = []

    @property
    def state(self) -> str:
        """``opening``, ``lost``, ``moving``, ``unfocused`` or ``settled``."""
        return self._state

    def as_json(self) -> dict[str, object]:
        """What the camera shows now, as the API gives it."""
        return {"name": self._name, "state": self._state, "error": self._error, "answer": self._answer}

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read frames.

        Args:
            loop: What serves the pages, and calls `picture`.
        """
        self._loop = loop
        self._thread.start()

    def close(self) -> None:
        """End the thread, and let the camera go."""
        self._end.set()
        self._thread.join(_CLOSE_SECONDS)

    async def picture(self) -> bytes | None:
        """The next frame as a JPEG; None if none comes."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(_PICTURE_SECONDS):
                return await future
        except TimeoutError:
            return None
        finally:
            with suppress(ValueError):
                self._waiting.remove(future)

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                with closing(self._open()) as source:
                    self._follow(source)
            except CameraError as error:
                self._lose(str(error))
            except Exception as error:  # it must not end the thread: the page would stand still, and nobody knows
                self._lose(f"{type(error).__name__}: {error}")

    def _follow(self, source: Source) -> None:
        gate = Gate()
        while not self._end.is_set():
            if (frame := source.next(_WAIT_SECONDS)) is None:
                continue
            begun = time.monotonic()
            self._name, self._pause = source.name, _FIRST_PAUSE
            self._notices.well("camera", f"camera: {source.name} gives images again")
            self._look(frame, gate)
            done = time.monotonic()
            self._end.wait(max(begun + _REST_SECONDS - done, done - begun))

    def _look(self, frame: Frame, gate: Gate) -> None:
        picture = Image.fromarray(frame.pixels)
        state = gate.look(picture)
        self.newest = frame
        self.figures.frames += 1
        self._error = ""
        if state == "settled":
            self._classify(frame, picture)
        self._state = state
        self._tell_pages()
        if self._waiting:
            self._call(self._deliver, small_jpeg(picture, _QUALITY))

    def _classify(self, frame: Frame, picture: Image.Image) -> None:
        """Answer a frame from the pixels that its PNG would be answered from."""
        classifier = self._service.classifier
        pixels = np.empty((*classifier.bundle.input_size, 3), np.uint8)
        image.fit(picture, pixels)
        try:
            prediction = classifier.classify_pixels(pixels)
        except TargetError as error:
            self._notices.say("engine", f"camera: {error}; trying again")
            self._error, self._answer = str(error), None
            return
        self._notices.well("engine")
        seconds = time.monotonic() - frame.received
        self._answer = {**classifier.trace(prediction), "frame_ms": round(seconds * 1e3, 3)}
        self.figures.settled += 1
        self.figures.seconds += seconds

    def _lose(self, error: str) -> None:
        """Say that the camera is not there, and wait before it is looked for again."""
        self._notices.say("camera", f"camera: {error}; trying again")
        self.figures.lost += self.newest is not None
        self._state, self._error, self._answer, self.newest = "lost", error, None, None
        self._tell_pages()
        self._end.wait(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _tell_pages(self) -> None:
        answer, now = self._answer or {}, time.monotonic()
        said = (self._state, self._error, answer.get("label"), answer.get("status"), answer.get("reason"))
        if said != self._said or now - self._said_at >= _NEWS_SECONDS:
            self._said, self._said_at = said, now
            self._call(self._hub.send, "camera", self.as_json())

    def _deliver(self, jpeg: bytes) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(jpeg)

    def _call(self, does: Callable[..., None], *values: object) -> None:
        """Call something in the loop's thread."""
        with suppress(RuntimeError):  # the loop has ended
            assert self._loop
            self._loop.call_soon_threadsafe(does, *values)
