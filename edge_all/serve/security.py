"""Who may ask, and how much: checked before a request reaches a route.

A page elsewhere must not drive this server through the browser of somebody who can reach it. So the ``Host`` must be
one of this machine's (DNS rebinding gives it a stranger's), and what a browser says of a request's origin
(``Origin``, ``Sec-Fetch-Site``) must be this server itself. There are no cookies; the token is in a header.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_all.errors import ServeError
from edge_all.serve.replies import Json, refusal

MAX_BODY = 64_000_000
"""Most bytes of a request that brings images."""

MAX_SMALL_BODY = 65_536
"""Most bytes of any other request."""

BODY_SECONDS = 30.0
"""In this time a request's body must be here."""

SEND_SECONDS = 30.0
"""In this time a client must take a part of an answer."""

LEAST_TOKEN = 16
"""Characters; a shorter one could be guessed."""

_MOST_CLIENTS = 1024
"""Addresses whose rate is remembered."""

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Rules:
    """Who may ask.

    Attributes:
        host: Address that the server listens on.
        token: What a client must know; None where the address is a loopback one and anyone on this machine may ask.
        names: Further names in ``Host`` that mean this server.
        rate: Requests a second of one client address, with as many again at once.
        public: Paths that need no token: the files of the page, which hold no data.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    names: tuple[str, ...] = ()
    rate: float = 200.0
    public: frozenset[str] = frozenset()

    def check(self) -> None:
        """Check that nobody beyond this machine can ask without a token.

        Raises:
            ServeError: Anybody could, or the token is too short.
        """
        if self.token is None and not is_loopback(self.host):
            raise ServeError(
                f"--host {self.host} is reached from other machines, and there is no token; wanted --token-file FILE, "
                "the variable EDGE_ALL_TOKEN, or --host 127.0.0.1"
            )
        if self.token is not None and (len(self.token) < LEAST_TOKEN or not self.token.isascii()):
            raise ServeError(
                f"the token has {len(self.token)} characters; wanted at least {LEAST_TOKEN} of ASCII, as from: "
                'python -c "import secrets; print(secrets.token_urlsafe())"'
            )

    def knows(self, host: str) -> bool:
        """Whether a name in ``Host`` means this server.

        Beyond loopback an address means it too, for rebinding takes a name.
        """
        name = host.rstrip(".").lower()
        if name in ("localhost", self.host.lower(), *(name.lower() for name in self.names)):
            return True
        if is_loopback(self.host):
            return is_loopback(name)
        own = socket.gethostname().lower()
        return _is_address(name) or name in (own, own.partition(".")[0], f"{own.partition('.')[0]}.local")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The outermost layer of the application: refuses, bounds what is read, and adds the headers of every answer."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._token = None if rules.token is None else _hash(rules.token)
        self._rates = Rates(rules.rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = _with_headers(send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if answer := self._refuse(scope, headers):
            await answer(scope, receive, sending)
            return
        await self._app(scope, _limited(receive, most_bytes(scope["path"])), sending)

    def _refuse(self, scope: Scope, headers: Mapping[str, str]) -> Json | None:
        host, path = headers.get("host", ""), scope["path"]
        if not self._rules.knows(_name(host)):
            return Json({"error": "Host is not this server; start it with --name NAME to allow a name"}, 403)
        if why := _foreign(scope["method"], path in self._rules.public, host, headers):
            return Json({"error": why}, 403)
        if wait := self._rates.seconds_to_wait((scope.get("client") or ("",))[0]):
            return Json({"error": "too many requests; wait"}, 429, {"Retry-After": str(math.ceil(wait))})
        if self._token and path not in self._rules.public and not self._has_token(headers):
            hint = {"WWW-Authenticate": "Bearer"}
            return Json({"error": "wanted a token: Authorization: Bearer TOKEN"}, 401, hint)
        most, length = most_bytes(path), headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > most:
            return Json({"error": _too_large(most)}, 413)
        return None

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(_hash(given.strip()), self._token or b"") and kind.lower() == "bearer"


class Rates:
    """A bucket for each client address, that fills at the rate and empties with each request."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: str) -> float:
        """Count a request; 0 where it may be answered."""
        now = time.monotonic()
        left, since = self._buckets.pop(client, (2 * self._rate, now))
        left = min(2 * self._rate, left + (now - since) * self._rate)
        wait = max(0.0, 1 - left) / self._rate
        self._buckets[client] = (left if wait else left - 1, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return wait


def most_bytes(path: str) -> int:
    """Most bytes of the body of a request for a path."""
    return MAX_BODY if path == "/classify" or path.startswith("/v2/") else MAX_SMALL_BODY


def _foreign(method: str, is_page: bool, host: str, headers: Mapping[str, str]) -> str:
    """Why a request comes from a page elsewhere; empty where it does not. A link to the page may be anywhere."""
    reads = method in ("GET", "HEAD")
    site, origin = headers.get("sec-fetch-site", "none"), headers.get("origin")
    if site not in ("same-origin", "none") and not (is_page and reads):
        return "the request comes from another site's page"
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return "the request comes from another site's page (Origin)"
    return ""


def _limited(receive: Receive, most: int) -> Receive:
    """Read a body of so many bytes, in a time that a slow client cannot stretch."""
    count, complete = 0, False
    deadline = time.monotonic() + BODY_SECONDS

    async def read() -> Message:
        nonlocal count, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                message = await receive()
        except TimeoutError:
            raise refusal(408, "the request did not arrive in time", {"Connection": "close"}) from None
        count += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if count > most:
            raise refusal(413, _too_large(most))
        return message

    return read


def _with_headers(send: Send) -> Send:
    added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        async with asyncio.timeout(SEND_SECONDS):
            await send(message)

    return sending


def _too_large(most: int) -> str:
    return f"over the limit of {most / 1e6:g} MB for a request"


def _name(host: str) -> str:
    """The name or address in ``Host``, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _hash(token: str) -> bytes:
    """Of any length the same, so that comparing takes the same time."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
