"""The server: uvicorn in this process, on a socket that is bound before anything is said of it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge_all.errors import ServeError
from edge_all.serve.records import Records
from edge_all.serve.service import Service

HEADER_SECONDS = 10.0
"""In this time after a connection is made, or goes on, the headers of a request must be here."""

_MOST_CONNECTIONS = 128
_KEEP_ALIVE_SECONDS = 15
_SHUTDOWN_SECONDS = 1
_MOST_HEADER_BYTES = 16_384
_NOTIFY_SECONDS = 10


class Patient(H11Protocol):
    """HTTP/1.1 with an end to patience: uvicorn waits without a limit for the headers of a request."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if not self.transport.is_closing() and self.conn.our_state is not h11.SEND_BODY:
            self.transport.close()


class Server(uvicorn.Server):
    """A server that lets its listeners go when it is told to end."""

    def __init__(self, app: ASGIApp, service: Service, records: Records) -> None:
        self._service, self._records = service, records
        super().__init__(
            uvicorn.Config(
                app,
                http=Patient,
                ws="none",
                lifespan="on",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
                h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
                callback_notify=_tell_systemd,
                timeout_notify=_NOTIFY_SECONDS,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._records.hub.close()
        await super().shutdown(sockets)
        self._service.close()
        self._records.close()

    def start(self, listening: socket.socket) -> None:
        """Answer until a signal, or until `should_exit` is set."""
        self.run(sockets=[listening])


async def _tell_systemd() -> None:
    """Say that the server is ready and its loop turns; systemd restarts one that goes silent.

    Reference: ``man sd_notify``. Where no service manager asks for it, nothing is sent.
    """
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place or sys.platform == "win32":
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.sendto(b"READY=1\nWATCHDOG=1", "\0" + place[1:] if place[0] == "@" else place)


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket for the server; port 0 takes any free one. Who connects now is answered when the server runs.

    Raises:
        ServeError: The address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, _REUSE, 1)
            listening.bind(address)
            listening.listen(_MOST_CONNECTIONS)  # who is told the address may come before the server is ready
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ServeError(
            f"{host}:{port}: cannot listen there ({error.strerror or error}); give another --host or --port"
        ) from None
    return listening


_REUSE: Any = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)
"""On Windows SO_REUSEADDR would share the port with another program."""


def address(host: str, listening: socket.socket) -> str:
    """Where a browser finds the page of a server that listens."""
    name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"
