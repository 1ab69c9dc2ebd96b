"""JSON for any text, and refusals in one form: ``{"error": "one line"}``."""

from __future__ import annotations

import json
from collections.abc import Mapping

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match


class Json(JSONResponse):
    """A value as JSON in ASCII, which is exact for any text, also for names of files that are no text."""

    def render(self, content: object) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def refusal(status: int, error: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """An exception that becomes a refusal."""
    return HTTPException(status, error, dict(headers or {}))


def busy(error: str) -> HTTPException:
    """The refusal of what there is no room for now."""
    return refusal(503, error, {"Retry-After": "1"})


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer a refusal, also one of the framework's own."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request) or {"GET"}))
    return Json({"error": one_line(error.detail)}, error.status_code, headers)


def _methods(request: Request) -> set[str]:
    """What may be asked of a path, by all of its routes."""
    found: set[str] = set()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods
    return found


async def on_invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose parameters or JSON are not what the description says."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return Json({"error": one_line(f"{where}: {first['msg']}")}, 422)


def one_line(text: object) -> str:
    """A text without line ends, and not too long for a message."""
    return " ".join(str(text).split())[:500]
