"""Routes of the camera: what it shows, its pictures one by one, and to keep one."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from edge_all import filing
from edge_all.errors import ImageError
from edge_all.journal import Entry, Journal
from edge_all.progress import Tell
from edge_all.serve import schemas
from edge_all.serve.api import records_of, service_of
from edge_all.serve.camera import Camera
from edge_all.serve.pictures import png
from edge_all.serve.records import as_json
from edge_all.serve.replies import Json, refusal

router = APIRouter(prefix="/camera", tags=["camera"], default_response_class=Json)


def camera_of(request: Request) -> Camera:
    """The camera.

    Raises:
        HTTPException: 404, there is none.
    """
    camera: Camera | None = request.app.state.camera
    if camera is None:
        raise refusal(404, "there is no camera; start the server with --camera FILE")
    return camera


@router.get("", responses=schemas.answers(schemas.Camera, 404))
async def shown(request: Request) -> Response:
    """What the camera shows now, and the answer to its last settled frame."""
    return Json(camera_of(request).as_json())


@router.get(
    "/frame.jpg",
    responses={**schemas.content("image/jpeg", 404), 204: {"description": "No frame has come within a second."}},
)
async def frame(request: Request) -> Response:
    """The next frame, made small enough for a screen."""
    picture = await camera_of(request).picture()
    return Response(status_code=204) if picture is None else Response(picture, media_type="image/jpeg")


@router.post("/keep", responses=schemas.answers(schemas.Entry, 404, 422, 503))
async def keep(request: Request) -> Response:
    """Keep the newest frame: as a PNG in the folder of kept frames, and its answer in the journal."""
    camera, service, records = camera_of(request), service_of(request), records_of(request)
    with service.place(request):
        async with camera.keeping:
            if (newest := camera.newest) is None:
                raise refusal(503, "the camera gives no image now", {"Retry-After": "5"})
            data = await service.run(partial(png, newest.pixels))
            try:
                given = await service.classify(data)
            except ImageError as error:
                raise refusal(422, str(error)) from None
            sha256 = given.prediction.sha256 or ""
            known = await records.ask(partial(Journal.by_digest, sha256=sha256))
            has_file = await service.run(partial(_has_file, known))
            if known and has_file:
                return Json(as_json(known))
            file = await service.run(partial(_put, data, camera.keep, sha256, service.tell))
            number = await records.add(given.entry(str(file), len(data)), None)
            if known:  # its image was only sent, or is gone
                await records.ask(partial(Journal.moved, number=number, file=str(file)))
    camera.figures.kept += 1
    kept = await records.entry(number)
    assert kept
    return Json(as_json(kept))


def _has_file(entry: Entry | None) -> bool:
    """Whether there is an entry, and its image in a file."""
    return entry is not None and Path(entry.file).is_absolute() and Path(entry.file).is_file()


def _put(data: bytes, folder: Path, sha256: str, tell: Tell) -> Path:
    """Write a frame under a name of its own: the time, UTC, and the beginning of its digest.

    Raises:
        HTTPException: 503, it cannot be written.
    """
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{sha256[:16]}.png"
    try:
        filing.put(data, folder, name)
    except OSError as error:
        reason = f"{folder}: the frame cannot be kept ({error.strerror or error}); free space there, or give --keep DIR"
        tell(reason)
        raise refusal(503, reason, {"Retry-After": "5"}) from None
    return Path(os.path.abspath(folder), name)
