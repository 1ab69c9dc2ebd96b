"""The forms of requests and answers, for the OpenAPI description; requests in JSON are checked against them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_MOST_ID = 2**53
"""Ids are exact in JavaScript up to here."""


def _whole(value: object) -> object:
    """A number such as 7.0 is a whole one in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Error(BaseModel):
    """Why a request was refused, in one line."""

    error: str


class Refused(Error):
    """Why an image was refused."""

    file: str


class Answer(BaseModel):
    """The answer for one image: what ``edge-all classify --json`` prints."""

    model_config = ConfigDict(extra="allow")

    file: str
    label: str | None
    status: Literal["ok", "refer", "unfamiliar"]
    top: str
    probabilities: dict[str, float]
    target: str
    precision: str
    ms: float
    unfamiliarity: float | None
    sha256: str
    reason: str | None
    threshold: float
    bundle: str
    bundle_digest: str
    version: str
    engine: str
    time: str


class Entry(BaseModel):
    """An answer in the journal."""

    model_config = ConfigDict(extra="allow")

    id: int
    file: str
    sha256: str
    bytes: int
    time: str
    status: Literal["ok", "refer", "unfamiliar", "refused"]
    label: str | None
    top: str | None
    probabilities: dict[str, float]
    unfamiliarity: float | None
    threshold: float
    error: str
    bundle: str
    bundle_digest: str
    target: str
    precision: str
    version: str
    engine: str
    ms: float
    review: str | None
    review_time: str | None
    session: int | None
    drift: float | None
    reason: str | None


class Entries(BaseModel):
    entries: list[Entry]


class Review(BaseModel):
    """What a person says about an answer."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[int, BeforeValidator(_whole)] = Field(strict=True, ge=1, le=_MOST_ID)
    label: str | None = Field(
        description="A class of the bundle that answered; empty for none of them; null takes back what was said."
    )


class Session(BaseModel):
    """The images of one smear."""

    id: int
    name: str
    begun: str
    ended: str | None


class Sessions(BaseModel):
    sessions: list[Session]


class NewSession(BaseModel):
    """The name of a smear, without a patient's data."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=60)


class Counts(BaseModel):
    """Images of a smear by class, as reviewed or else as answered, and by what has no class."""

    session: Session
    counts: dict[str, int]


class Probe(BaseModel):
    images: int
    same_label: int
    max_difference: float
    passed: bool


class Camera(BaseModel):
    """What a camera shows now. The answer is that of the last settled frame, and is in no journal."""

    name: str
    state: Literal["opening", "lost", "moving", "unfocused", "settled"]
    error: str
    answer: dict[str, Any] | None


class Drift(BaseModel):
    """The last fields of a source together; above 1 they are unlike the training images."""

    source: str
    score: float
    change: str
    run: int
    over: bool


class Health(BaseModel):
    name: str
    digest: str
    problem: str
    classes: list[str]
    target: str
    precision: str
    engine: str
    version: str
    probe: Probe | None
    drift: list[Drift]
    disk_free_bytes: int | None
    disk_low: bool
    waiting: int
    most_waiting: int
    uptime_seconds: float
    watched: list[str]
    camera: str | None
    overlay: bool


class V2Server(BaseModel):
    name: str
    version: str
    extensions: list[str]


class V2Live(BaseModel):
    live: bool


class V2Ready(BaseModel):
    ready: bool


class V2ModelReady(BaseModel):
    name: str
    ready: bool


class V2Tensor(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class V2Model(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2Image(BaseModel):
    """Pixels in the size of the graph's input. Without `data` they follow the JSON as bytes."""

    name: Literal["image"]
    datatype: Literal["UINT8"]
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=4, max_length=4)
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = Field(default=None, description="Whole numbers from 0 to 255, flat or nested.")


class V2Encoded(BaseModel):
    """Image files. Without `data` they follow the JSON as bytes."""

    name: Literal["encoded"]
    datatype: Literal["BYTES"]
    shape: list[Annotated[int, Field(ge=1)]] = Field(min_length=1, max_length=2)
    parameters: dict[str, Any] | None = None
    data: list[str] | None = Field(default=None, description="Each file in base64.")


class V2Wanted(BaseModel):
    name: Literal["probabilities", "label", "status"]
    parameters: dict[str, Any] | None = None


class V2Request(BaseModel):
    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[V2Image | V2Encoded] = Field(min_length=1, max_length=1)
    outputs: list[V2Wanted] | None = None


class V2Output(V2Tensor):
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class V2Answer(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[V2Output]


_MEANINGS = {
    400: "It is no such request.",
    401: "A token is wanted.",
    403: "The request comes from another site, or for another host.",
    404: "There is no such thing.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    422: "The request, or the image in it, is refused.",
    429: "Too many requests from this address; wait `Retry-After` seconds.",
    503: "There is no room for it now; wait `Retry-After` seconds.",
}


def answers(model: type[BaseModel], *codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route, with those that every route has.

    Args:
        model: Of the answer where all is well.
        codes: Of the refusals that this route has beside those of all.
    """
    refusals: dict[int | str, dict[str, Any]] = {
        code: {"model": Error, "description": _MEANINGS[code]} for code in sorted({401, 403, 429, *codes})
    }
    return {200: {"model": model, "description": "All is well."}, **refusals}


def content(media_type: str, *codes: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route whose answer is no JSON."""
    found = answers(Error, *codes)
    found[200] = {"description": "All is well.", "content": {media_type: {"schema": {"type": "string"}}}}
    return found


def body(model: type[BaseModel]) -> dict[str, Any]:
    """A body in JSON that the route reads by itself."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary"}

IMAGE_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "image/*": {"schema": _FILE},
            "application/octet-stream": {"schema": _FILE},
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": _FILE}},
                "encoding": {"file": {"contentType": "image/*"}},
            },
        },
    }
}
"""A body that is an image file, or a form with one."""

UNREFERENCED = (V2Request, V2Image, V2Encoded, V2Wanted)
"""Models that only a body's description names; they are added to the components."""
