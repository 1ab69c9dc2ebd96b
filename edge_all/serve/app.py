"""The application: routes, the files of the page, and the guard around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from edge_all import NOTICE, __version__
from edge_all.errors import JournalError, TargetError
from edge_all.serve import api, camera_api, schemas, v2
from edge_all.serve.camera import Camera
from edge_all.serve.records import Records
from edge_all.serve.replies import Json, on_invalid, on_refusal, one_line
from edge_all.serve.security import Guard, Rules
from edge_all.serve.service import Service

_PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/server.js": ("server.js", "text/javascript"),
    "/view.js": ("view.js", "text/javascript"),
    "/camera.js": ("camera.js", "text/javascript"),
    "/texts.js": ("texts.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The files of the page, by their path; no other file is served."""

PUBLIC = frozenset(_PAGE)


def make(
    service: Service, records: Records, rules: Rules, watched: Sequence[str] = (), camera: Camera | None = None
) -> ASGIApp:
    """Make the application.

    Args:
        service: What answers.
        records: The journal.
        rules: Who may ask.
        watched: Folders whose images come into the journal in this process, for the page to show.
        camera: A camera, which runs while the application does.
    """

    @asynccontextmanager
    async def while_running(app: FastAPI) -> AsyncIterator[None]:
        following = [asyncio.create_task(part.follow()) for part in (records, service)]
        if camera:
            camera.start(asyncio.get_running_loop())
        yield
        if camera:
            await asyncio.to_thread(camera.close)
        for task in following:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    app = FastAPI(
        title="edge_all",
        version=__version__,
        description=f"Classifies blood-smear images. {NOTICE}",
        lifespan=while_running,
        docs_url=None,  # these pages load from other hosts
        redoc_url=None,
    )
    app.state.service, app.state.records, app.state.watched = service, records, list(watched)
    app.state.camera = camera
    app.add_exception_handler(HTTPException, on_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(TargetError, _unavailable)
    app.add_exception_handler(JournalError, _unavailable)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
    routers = (api.router, camera_api.router, v2.router)
    app.state.routes = [route for router in routers for route in router.routes]
    for router in routers:
        app.include_router(router)
    for path, (name, kind) in _PAGE.items():
        app.add_api_route(path, _file(name, kind), methods=["GET"], include_in_schema=False)
    app.openapi = _described(app)  # type: ignore[method-assign]
    return Guard(app, rules)


async def _unavailable(request: Request, error: Exception) -> Response:
    """Answer where the engine failed, or the journal cannot be used, as on a full disk."""
    return Json({"error": one_line(error)}, 503, {"Retry-After": "5"})


async def _gone(request: Request, error: Exception) -> Response:
    """Answer nobody."""
    return Response(status_code=400)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer where something is wrong with the server itself."""
    service: Service = request.app.state.service
    service.tell(f"{request.method} {request.scope['route'].path if 'route' in request.scope else ''}: {error!r}")
    return Json({"error": f"unexpected {type(error).__name__}"}, 500)


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = files("edge_all.serve").joinpath("page", name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=f"{kind}; charset=utf-8")

    return send


def _described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """FastAPI's description, with the models that it does not find by itself, and how a token is given."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        description = plain()
        components = description.setdefault("components", {})
        for model in schemas.UNREFERENCED:
            form = model.model_json_schema(ref_template="#/components/schemas/{model}")
            form.pop("$defs", None)
            components["schemas"].setdefault(model.__name__, form)
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}, {}]
        return description

    return described
