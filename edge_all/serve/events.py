"""Live results: new entries of the journal, sent to every page that listens (server-sent events)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from edge_all.serve.replies import busy

MAX_LISTENERS = 32
"""Pages at the same time."""

_BEHIND = 100
"""Events that may wait for a slow listener; then it is let go, and its page asks for all again."""

_HEARTBEAT_SECONDS = 15.0


class Hub:
    """Sends each event to all listeners."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[bytes | None]] = set()

    def send(self, event: str, value: object) -> None:
        """Send an event to whoever listens now."""
        text = f"event: {event}\ndata: {json.dumps(value, separators=(',', ':'))}\n\n".encode("ascii")
        for queue in list(self._queues):
            if queue.qsize() < _BEHIND:
                queue.put_nowait(text)
            else:
                self._queues.discard(queue)
                queue.put_nowait(None)

    def close(self) -> None:
        """Let all listeners go."""
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()

    def listen(self) -> AsyncIterator[bytes]:
        """The events from now on, as a stream of text; a comment in between keeps the connection alive.

        Raises:
            HTTPException: 503, there are too many listeners.
        """
        if len(self._queues) >= MAX_LISTENERS:
            raise busy(f"{MAX_LISTENERS} pages listen already; close one")
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queues.add(queue)
        return self._events(queue)

    async def _events(self, queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
        try:
            yield b"retry: 1000\n\n"
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT_SECONDS):
                        text = await queue.get()
                except TimeoutError:
                    text = b": still here\n\n"
                if text is None:
                    return
                yield text
        finally:
            self._queues.discard(queue)
