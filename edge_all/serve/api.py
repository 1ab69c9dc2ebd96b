"""Routes beside the Open Inference Protocol: answers for images, the journal for the page, health and figures."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from edge_all import __version__, disk
from edge_all.errors import ImageError, JournalError
from edge_all.journal import Entry, Journal
from edge_all.serve import metrics, schemas, uploads
from edge_all.serve.pictures import as_jpeg
from edge_all.serve.records import Records, as_json
from edge_all.serve.replies import Json, refusal
from edge_all.serve.service import MAX_WAITING, Service

router = APIRouter(default_response_class=Json)

Id = Annotated[int, Path(ge=1, le=2**53)]

MOST_ENTRIES = 500
"""Entries in one answer."""


def service_of(request: Request) -> Service:
    """What answers."""
    service: Service = request.app.state.service
    return service


def records_of(request: Request) -> Records:
    """The journal."""
    records: Records = request.app.state.records
    return records


@router.post(
    "/classify",
    tags=["answers"],
    responses=schemas.answers(schemas.Answer, 400, 408, 413, 422, 503),
    openapi_extra=schemas.IMAGE_BODY,
)
async def classify(
    request: Request,
    record: Annotated[bool, Query(description="Write the answer into the journal, for the page and a review.")] = False,
) -> Response:
    """Classify one image: the body is the image file, or a form with one file.

    The answer is what `edge-all classify --json` prints. The header `Edge-All-Entry` has the id in the journal.
    """
    service = service_of(request)
    with service.place(request):
        upload = await uploads.read(request)
        try:
            given = await service.classify(upload.data)
        except ImageError as error:
            return Json({"file": upload.name, "error": str(error)}, 422)
        headers = {}
        if record:
            entry = given.entry(upload.name, len(upload.data))
            headers["Edge-All-Entry"] = str(await records_of(request).add(entry, upload.data))
    return Json({"file": upload.name, **given.classifier.trace(given.prediction)}, headers=headers)


@router.get("/api/health", tags=["page"], responses=schemas.answers(schemas.Health))
async def health(request: Request) -> Response:
    """What answers, on what machine, and whether it is well."""
    service, camera = service_of(request), request.app.state.camera
    classifier, figures = await service.run(service.refresh), service.figures
    verdict = service.verdict(classifier)
    free = records_of(request).disk_free()
    return Json(
        {
            "name": classifier.bundle.name,
            "digest": classifier.bundle.digest,
            "problem": service.live.wrong,
            "classes": classifier.bundle.classes,
            "target": classifier.target,
            "precision": classifier.precision,
            "engine": classifier.engine.description,
            "version": __version__,
            "probe": asdict(verdict) if verdict else None,
            "drift": [asdict(state) for state in service.live.runs.states()],
            "disk_free_bytes": free,
            "disk_low": disk.is_low(free),
            "waiting": figures.waiting,
            "most_waiting": MAX_WAITING,
            "uptime_seconds": round(time.time() - figures.started, 3),
            "watched": request.app.state.watched,
            "camera": camera.state if camera else None,
            "overlay": has_overlay(),
        }
    )


@router.get("/api/entries", tags=["page"], responses=schemas.answers(schemas.Entries, 422, 503))
async def entries(
    request: Request,
    before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 50,
    session: Annotated[int | None, Query(ge=1, le=2**53)] = None,
    unreviewed: bool = False,
) -> Response:
    """Answers in the journal, the newest first."""
    work = partial(
        Journal.entries, before=before, limit=limit, session=session, unreviewed=unreviewed, newest_first=True
    )
    return Json({"entries": [as_json(entry) for entry in await records_of(request).ask(work)]})


@router.get("/api/queue", tags=["page"], responses=schemas.answers(schemas.Entries, 422, 503))
async def queue(request: Request, limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100) -> Response:
    """What nobody has reviewed: first what has no class, then what is undecided, then the rest, each oldest first."""

    def work(journal: Journal) -> list[Entry]:
        found: list[Entry] = []
        for status in ("unfamiliar", "refer", "ok"):
            if len(found) < limit:
                found += journal.entries(status=status, unreviewed=True, limit=limit - len(found))
        return found

    return Json({"entries": [as_json(entry) for entry in await records_of(request).ask(work)]})


@router.get("/api/entries/{number}", tags=["page"], responses=schemas.answers(schemas.Entry, 404, 422, 503))
async def entry(request: Request, number: Id) -> Response:
    """One answer in the journal."""
    return Json(as_json(await _entry(request, number)))


@router.get("/api/entries/{number}/image", tags=["page"], responses=schemas.content("image/jpeg", 404, 422, 503))
async def picture(request: Request, number: Id) -> Response:
    """The image of an entry, made small enough for a screen, if it is still the one that was answered."""
    return await _drawn(request, number, as_jpeg, "image/jpeg")


@router.get("/api/entries/{number}/overlay", tags=["page"], responses=schemas.content("image/png", 404, 422, 503))
async def overlay(request: Request, number: Id) -> Response:
    """Where in the image the answer comes from."""
    if not has_overlay():
        raise refusal(404, "there are no heat maps in this version")
    overlay_png = importlib.import_module("edge_all.explain").overlay_png
    return await _drawn(request, number, partial(overlay_png, service_of(request).classifier), "image/png")


def has_overlay() -> bool:
    """Whether there are heat maps."""
    return importlib.util.find_spec("edge_all.explain") is not None


@router.post("/api/review", tags=["page"], responses=schemas.answers(schemas.Entry, 400, 404, 408, 413, 422, 503))
async def review(request: Request, said: schemas.Review) -> Response:
    """Record what a person says about an answer."""
    await _entry(request, said.id)
    try:
        reviewed = await records_of(request).ask(lambda journal: journal.review(said.id, said.label))
    except JournalError as error:
        raise refusal(422, str(error)) from None
    records_of(request).hub.send("review", as_json(reviewed))
    return Json(as_json(reviewed))


@router.get("/api/sessions", tags=["page"], responses=schemas.answers(schemas.Sessions, 503))
async def sessions(request: Request) -> Response:
    """The smears, the newest first."""
    return Json({"sessions": [asdict(session) for session in await records_of(request).ask(Journal.sessions)]})


@router.post("/api/sessions", tags=["page"], responses=schemas.answers(schemas.Session, 400, 408, 413, 422, 503))
async def start_session(request: Request, new: schemas.NewSession) -> Response:
    """Begin a smear; one that is open ends."""
    try:
        session = await records_of(request).ask(lambda journal: journal.start_session(new.name))
    except JournalError as error:
        raise refusal(422, str(error)) from None
    records_of(request).hub.send("session", asdict(session))
    return Json(asdict(session))


@router.post("/api/sessions/{number}/end", tags=["page"], responses=schemas.answers(schemas.Session, 404, 422, 503))
async def end_session(request: Request, number: Id) -> Response:
    """End a smear."""
    try:
        session = await records_of(request).ask(lambda journal: journal.end_session(number))
    except JournalError as error:
        raise refusal(404, str(error)) from None
    records_of(request).hub.send("session", asdict(session))
    return Json(asdict(session))


@router.get("/api/sessions/{number}", tags=["page"], responses=schemas.answers(schemas.Counts, 404, 422, 503))
async def counts(request: Request, number: Id) -> Response:
    """How many images of a smear have each class."""

    def work(journal: Journal) -> dict[str, object] | None:
        session = next((session for session in journal.sessions() if session.id == number), None)
        return {"session": asdict(session), "counts": journal.counts(session=number)} if session else None

    found = await records_of(request).ask(work)
    if found is None:
        raise refusal(404, f"there is no smear {number}")
    return Json(found)


@router.get("/events", tags=["page"], responses=schemas.content("text/event-stream", 503))
async def events(request: Request) -> Response:
    """What is new, as it comes (server-sent events): `entry`, `review`, `session`, and `camera` as `GET /camera`."""
    return StreamingResponse(records_of(request).hub.listen(), media_type="text/event-stream")


@router.get("/metrics", tags=["figures"], responses=schemas.content("text/plain"))
async def figures(request: Request) -> Response:
    """Figures for Prometheus."""
    text = metrics.text(service_of(request), records_of(request).disk_free(), request.app.state.camera)
    return Response(text, headers={"Content-Type": metrics.MEDIA_TYPE})


async def _entry(request: Request, number: int) -> Entry:
    found = await records_of(request).entry(number)
    if found is None:
        raise refusal(404, f"there is no entry {number}")
    return found


async def _drawn(request: Request, number: int, draw: Callable[[bytes], bytes], media_type: str) -> Response:
    """What is drawn of the image of an entry."""
    found = await _entry(request, number)
    service, records = service_of(request), records_of(request)
    with service.place(request):
        data = await service.run(lambda: records.image(found))
        if data is None:
            raise refusal(404, "the image is no longer there, or is another one by now")
        try:
            return Response(await service.run(lambda: draw(data)), media_type=media_type)
        except ImageError as error:
            raise refusal(422, str(error)) from None
