"""The Open Inference Protocol, version 2 (https://github.com/kserve/open-inference-protocol)."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from edge_all import __version__
from edge_all.classifier import Classifier
from edge_all.errors import ImageError
from edge_all.prediction import Prediction
from edge_all.serve import schemas, tensors
from edge_all.serve.replies import Json, refusal
from edge_all.serve.service import Service
from edge_all.serve.tensors import HEADER_LENGTH, Output

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol v2"], default_response_class=Json)

_OUTPUTS = {"probabilities": "FP32", "label": "BYTES", "status": "BYTES", "reason": "BYTES"}
_VERSION = "1"


@router.get("", responses=schemas.answers(schemas.V2Server))
async def server(request: Request) -> Response:
    """What this server is."""
    return Json({"name": "edge_all", "version": __version__, "extensions": ["binary_tensor_data"]})


@router.get("/health/live", responses=schemas.answers(schemas.V2Live))
async def live(request: Request) -> Response:
    """Whether the process answers."""
    return Json({"live": True})


@router.get("/health/ready", responses=schemas.answers(schemas.V2Ready))
async def ready(request: Request) -> Response:
    """Whether images can be classified."""
    return Json({"ready": True})


@router.get("/models/{name}", responses=schemas.answers(schemas.V2Model, 404))
@router.get("/models/{name}/versions/{version}", responses=schemas.answers(schemas.V2Model, 404))
async def model(request: Request, name: str, version: str = _VERSION) -> Response:
    """The inputs and outputs of the bundle. Each request has one of the two inputs."""
    classifier = await _classifier(request, name, version)
    height, width = classifier.bundle.input_size
    return Json(
        {
            "name": name,
            "versions": [_VERSION],
            "platform": f"edge_all_{classifier.target}_{classifier.precision}",
            "inputs": [
                {"name": "image", "datatype": "UINT8", "shape": [-1, height, width, 3]},
                {"name": "encoded", "datatype": "BYTES", "shape": [-1]},
            ],
            "outputs": [
                {"name": output, "datatype": kind, "shape": _shape(output, -1, len(classifier.bundle.classes))}
                for output, kind in _OUTPUTS.items()
            ],
        }
    )


@router.get("/models/{name}/ready", responses=schemas.answers(schemas.V2ModelReady, 404))
@router.get("/models/{name}/versions/{version}/ready", responses=schemas.answers(schemas.V2ModelReady, 404))
async def model_ready(request: Request, name: str, version: str = _VERSION) -> Response:
    """Whether the bundle of this name is loaded."""
    await _classifier(request, name, version)
    return Json({"name": name, "ready": True})


_INFER: dict[str, Any] = {
    "responses": schemas.answers(schemas.V2Answer, 400, 404, 408, 413, 422, 503),
    "openapi_extra": schemas.body(schemas.V2Request),
}


@router.post("/models/{name}/infer", **_INFER)
@router.post("/models/{name}/versions/{version}/infer", **_INFER)
async def infer(request: Request, name: str, version: str = _VERSION) -> Response:
    """Classify up to 64 images: pixels in the size of the graph, or encoded images (in JSON as base64).

    An empty ``label`` stands for no class, and an empty ``reason`` for none. With the header
    ``Inference-Header-Content-Length`` tensors may be bytes.
    """
    service: Service = request.app.state.service
    classifier = await _classifier(request, name, version)
    bundle = classifier.bundle
    with service.place(request):
        body = await request.body()
        length = request.headers.get(HEADER_LENGTH)
        asked = await service.run(partial(tensors.read, body, length, bundle.input_size, tuple(_OUTPUTS)))
        del body
        answers = []
        for i, image in enumerate(asked.images):
            try:
                answers.append((await service.classify(image, classifier)).prediction)
            except ImageError as error:
                raise refusal(422, f"image {i}: {error}") from None
    head: dict[str, Any] = {"model_name": name, "model_version": version}
    if asked.id is not None:
        head["id"] = asked.id
    outputs = [_output(output, answers, len(bundle.classes)) for output in asked.outputs]
    content, json_bytes = tensors.write(head, outputs, asked.outputs)
    if json_bytes is None:
        return Response(content, media_type="application/json")
    return Response(content, media_type="application/octet-stream", headers={HEADER_LENGTH: str(json_bytes)})


def _output(name: str, answers: list[Prediction], classes: int) -> Output:
    values: dict[str, list[Any]] = {
        "probabilities": [value for p in answers for value in p.probabilities.values()],
        "label": [p.label or "" for p in answers],
        "status": [p.status for p in answers],
        "reason": [p.reason or "" for p in answers],
    }
    return Output(name, _OUTPUTS[name], tuple(_shape(name, len(answers), classes)), values[name])


def _shape(output: str, images: int, classes: int) -> list[int]:
    return [images, classes] if output == "probabilities" else [images]


async def _classifier(request: Request, name: str, version: str) -> Classifier:
    """What answers for the whole of a request, whatever becomes of the bundle meanwhile."""
    service: Service = request.app.state.service
    classifier = await service.run(service.refresh)
    if name != classifier.bundle.name or version != _VERSION:
        raise refusal(404, f"there is no such model here; there is {classifier.bundle.name}, version {_VERSION}")
    return classifier
