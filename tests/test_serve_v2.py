"""The Open Inference Protocol, version 2, and the description of the API. A real server, asked over HTTP."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, SIZE, colour_picture

from edge_all.bundle import Bundle

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from helpers_serve import picture  # noqa: E402


def test_v2_describes_itself(client: Any, served: Bundle) -> None:
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/colour/ready").json() == {"name": "colour", "ready": True}
    model = client.get("/v2/models/colour/versions/1").json()
    assert model["inputs"][0] == {"name": "image", "datatype": "UINT8", "shape": [-1, *SIZE, 3]}
    assert client.get("/v2/models/nonesuch").status_code == 404
    assert client.get("/v2/models/colour/versions/2").json()["error"].startswith("there is no such model")


def pixels(*channels: int) -> np.ndarray:
    return np.stack([np.asarray(colour_picture(k, seed=k)) for k in channels])


def test_v2_answers_as_classify_does(client: Any) -> None:
    one = client.post("/classify", content=picture(0)).json()
    text = base64.b64encode(picture(0)).decode()
    asked = {"id": "7", "inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    answer = client.post("/v2/models/colour/infer", json=asked).json()
    assert (answer["id"], answer["model_name"]) == ("7", "colour")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["probabilities"]["data"] == list(one["probabilities"].values())
    assert outputs["label"]["data"] == [one["label"]]
    assert outputs["status"]["data"] == [one["status"]]
    images = pixels(2, 0, 1)
    for data in (images.tolist(), images.reshape(-1).tolist()):
        tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": data}
        wanted = {"inputs": [tensor], "outputs": [{"name": "label"}]}
        (output,) = client.post("/v2/models/colour/infer", json=wanted).json()["outputs"]
        assert output["data"] == [CLASSES[0], CLASSES[2], CLASSES[1]]


def test_v2_takes_and_gives_tensors_as_bytes(client: Any) -> None:
    images = pixels(2, 1)
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "parameters": {"binary_data_size": images.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    answer = client.post("/v2/models/colour/infer", content=head + images.tobytes(), headers=length)
    end = int(answer.headers["Inference-Header-Content-Length"])
    outputs = json.loads(answer.content[:end])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    shares, labels, _, reasons = np.split(np.frombuffer(answer.content[end:], np.uint8), np.cumsum(sizes)[:-1])
    assert shares.view("<f4").reshape(2, 3).argmax(1).tolist() == [0, 1]
    assert labels.tobytes() == b"".join(struct.pack("<I", len(name.encode())) + name.encode() for name in CLASSES[:2])
    assert not reasons.any()
    data = picture(0)
    tensor = {"name": "encoded", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data) + 4}}
    head = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    sent = client.post("/v2/models/colour/infer", content=head + struct.pack("<I", len(data)) + data, headers=length)
    assert sent.json()["outputs"][1]["data"] == [CLASSES[2]]


@pytest.mark.parametrize(
    "asked",
    [
        b"{",
        b"[" * 100_000,
        {},
        {"inputs": []},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [0, *SIZE, 3], "data": []}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, *SIZE, 3], "data": [256] * 9216}]},
        {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, *SIZE, 3], "data": [[1], 2]}]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": ["?"]}]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": [""]}], "parameters": False},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [2], "data": [""]}]},
        {"inputs": [{"name": "other", "datatype": "FP32", "shape": [1], "data": [1]}]},
        {"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}}]},
    ],
)
def test_v2_refuses_what_it_cannot_read(client: Any, asked: Any) -> None:
    content = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    answer = client.post("/v2/models/colour/infer", content=content)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]


def test_the_description_is_whole(client: Any) -> None:
    description = client.get("/openapi.json").json()
    assert {"/classify", "/v2/models/{name}/infer", "/events", "/metrics"} <= set(description["paths"])
    for path in description["paths"].values():
        for operation in path.values():
            assert {"200", "401", "403", "429"} <= set(operation["responses"])

    def references(value: Any) -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key == "$ref":
                yield inner.rpartition("/")[2]
            elif isinstance(inner, (dict, list)):
                yield from references(inner)

    assert set(references(description)) <= set(description["components"]["schemas"])


def test_the_answers_are_those_of_the_description(client: Any) -> None:
    description = client.get("/openapi.json").json()
    for path, name in (("/classify", "Answer"), ("/api/review", "Entry"), ("/v2/models/{name}/infer", "V2Answer")):
        forms = description["paths"][path]["post"]["responses"]["200"]["content"]
        assert forms == {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    wanted = set(description["components"]["schemas"]["Answer"]["required"])
    assert set(client.post("/classify", content=picture(0)).json()) == wanted
    assert set(client.options("/api/sessions").headers["allow"].split(", ")) == {"GET", "POST"}
