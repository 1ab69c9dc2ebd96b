"""The server: the same answers as `classify`, and nothing for strangers. A real one, asked over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, SIZE, colour_picture, encoded, write_colour_bundle
from helpers_command import PROGRAM, Command
from PIL import Image

from edge_all.bundle import Bundle

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from helpers_serve import serving  # noqa: E402

from edge_all.errors import ServeError  # noqa: E402
from edge_all.serve import app, events, security, server, service, uploads  # noqa: E402
from edge_all.serve.security import Rates, Rules  # noqa: E402

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_colour_bundle(tmp_path_factory.mktemp("served") / "colour")


@pytest.fixture(scope="module")
def address(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(bundle, tmp_path_factory.mktemp("journal") / "journal.sqlite") as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with httpx.Client(base_url=address, timeout=20) as opened:
        yield opened


def picture(channel: int, seed: int = 0, form: str = "PNG") -> bytes:
    return encoded(colour_picture(channel, seed), form)


def same(answer: dict[str, Any], other: dict[str, Any], *but: str) -> bool:
    return {k: v for k, v in answer.items() if k not in but} == {k: v for k, v in other.items() if k not in but}


def test_the_answer_is_that_of_classify(client: Any, bundle: Bundle, edge_all: Command, tmp_path: Path) -> None:
    (tmp_path / "field.png").write_bytes(picture(1))
    printed = json.loads(edge_all("classify", "field.png", "--bundle", bundle.path, "--json").stdout)
    form = client.post("/classify", files={"file": ("field.png", picture(1))})
    assert form.status_code == 200
    assert same(form.json(), printed, "ms", "time")
    raw = client.post("/classify", content=picture(1))
    assert raw.json()["file"] == "-"
    assert same(raw.json(), printed, "ms", "time", "file")


def test_an_image_that_is_refused_is_refused_with_the_line_of_classify(client: Any) -> None:
    answer = client.post("/classify", files={"file": ("a.png", b"nothing")})
    assert answer.status_code == 422
    assert answer.json() == {"file": "a.png", "error": answer.json()["error"]}
    assert "not an image" in answer.json()["error"]
    assert client.post("/classify", content=b"").json()["error"].startswith("the file is empty")


def test_a_form_holds_exactly_one_file(client: Any) -> None:
    two = [("file", ("a.png", picture(0))), ("file", ("b.png", picture(1)))]
    assert client.post("/classify", files=two).status_code == 422
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/classify", content=b"--x\r\nno", headers=kind).status_code == 400
    assert client.post("/classify", content=b"", headers={"content-type": "multipart/form-data"}).status_code == 400


@pytest.mark.parametrize("name", ["/etc/passwd", "..\\..\\secret.png", "C:evil.png", "..", ""])
def test_a_name_is_never_a_path(name: str) -> None:
    plain = uploads.plain_name(name)
    assert plain in ("passwd", "secret.png", "evil.png", "-")


def test_no_request_opens_a_file(client: Any, tmp_path: Path) -> None:
    """An image that is known by its whole name is still only what was sent."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(0, seed=77))
    sent = client.post("/classify", params={"record": True}, files={"file": (str(secret), picture(2, seed=78))})
    entry = client.get(f"/api/entries/{sent.headers['Edge-All-Entry']}").json()
    assert entry["file"] == "secret.png"
    for path in ("/../pyproject.toml", "/page/../app.py", "/%2e%2e/app.py", "/app.py", "//etc/passwd"):
        assert client.get(path).status_code == 404


def test_the_journal_has_what_was_to_be_recorded(client: Any) -> None:
    sent = client.post("/classify", params={"record": True}, files={"file": ("r.png", picture(0, seed=5))})
    number = int(sent.headers["Edge-All-Entry"])
    entry = client.get(f"/api/entries/{number}").json()
    both = set(entry) & set(sent.json()) - {"time"}
    assert {"label", "probabilities", "sha256", "bundle_digest"} <= both
    assert {name: entry[name] for name in both} == {name: sent.json()[name] for name in both}
    again = client.post("/classify", params={"record": True}, files={"file": ("again.png", picture(0, seed=5))})
    assert int(again.headers["Edge-All-Entry"]) == number
    shown = client.get(f"/api/entries/{number}/image")
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (SIZE[1], SIZE[0])
    overlay = client.get(f"/api/entries/{number}/overlay")
    assert client.get("/api/health").json()["overlay"] == (overlay.status_code == 200)
    assert overlay.status_code == 404 or overlay.content.startswith(b"\x89PNG")
    assert client.get("/api/entries/999999/image").status_code == 404
    before = client.get("/api/entries").json()["entries"][0]["id"]
    client.post("/classify", content=picture(0, seed=6))
    assert client.get("/api/entries").json()["entries"][0]["id"] == before


def test_a_review_and_a_smear(client: Any) -> None:
    smear = client.post("/api/sessions", json={"name": "S-12"}).json()
    sent = client.post("/classify", params={"record": True}, content=picture(1, seed=21))
    number = int(sent.headers["Edge-All-Entry"])
    assert number in [entry["id"] for entry in client.get("/api/queue").json()["entries"]]
    said = client.post("/api/review", json={"id": number, "label": CLASSES[0]})
    assert said.json()["review"] == CLASSES[0]
    assert number not in [entry["id"] for entry in client.get("/api/queue").json()["entries"]]
    assert client.get(f"/api/sessions/{smear['id']}").json()["counts"][CLASSES[0]] == 1
    assert client.post("/api/review", json={"id": number, "label": "nonesuch"}).status_code == 422
    assert client.post("/api/review", json={"id": 10**9, "label": None}).status_code == 404
    assert client.post("/api/review", json={"id": number, "label": None}).json()["review"] is None
    assert client.post(f"/api/sessions/{smear['id']}/end", json={}).json()["ended"]
    assert client.post("/api/sessions", json={"name": "a\x1bb"}).status_code == 422
    assert client.get("/api/sessions").json()["sessions"][0] == {
        **smear,
        "ended": client.get(f"/api/sessions/{smear['id']}").json()["session"]["ended"],
    }


def test_new_answers_come_as_events(client: Any, address: str) -> None:
    with httpx.stream("GET", f"{address}/events", timeout=20) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert next(lines).startswith("retry")
        sent = client.post("/classify", params={"record": True}, content=picture(2, seed=31))
        while (line := next(lines)) != "event: entry":
            assert not line or line.startswith(":")
        assert json.loads(next(lines).removeprefix("data: "))["id"] == int(sent.headers["Edge-All-Entry"])


def test_health_and_figures(client: Any, bundle: Bundle) -> None:
    health = client.get("/api/health").json()
    assert (health["name"], health["digest"], health["classes"]) == (bundle.name, bundle.digest, list(CLASSES))
    assert health["probe"]["passed"]
    assert health["disk_free_bytes"] > 0
    before = client.get("/metrics").text
    client.post("/classify", content=picture(0))
    after = client.get("/metrics").text

    def answered(text: str) -> int:
        return int(
            next(line for line in text.splitlines() if line.startswith('edge_all_answers_total{status="ok"}')).split()[
                -1
            ]
        )

    assert answered(after) == answered(before) + 1
    assert f'digest="{bundle.digest}"' in after


def test_the_page_loads_from_here_only(client: Any) -> None:
    for path in sorted(app.PUBLIC):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "set-cookie" not in answer.headers
        assert not [line for line in answer.text.splitlines() if "http" in line and "www.w3.org/2000/svg" not in line]
    assert "style=" not in client.get("/").text


def test_v2_describes_itself(client: Any, bundle: Bundle) -> None:
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
    shares, labels, _ = np.split(np.frombuffer(answer.content[end:], np.uint8), np.cumsum(sizes)[:-1])
    assert shares.view("<f4").reshape(2, 3).argmax(1).tolist() == [0, 1]
    assert labels.tobytes() == b"".join(struct.pack("<I", len(name.encode())) + name.encode() for name in CLASSES[:2])
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


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.0.2.1", ""])
def test_a_strange_host_is_refused(client: Any, host: str) -> None:
    assert client.get("/api/health", headers={"Host": host}).status_code in (400, 403)
    assert client.get("/", headers={"Host": host}).status_code in (400, 403)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_page_drives_nothing(client: Any, address: str, headers: dict[str, str]) -> None:
    assert client.post("/classify", content=picture(0), headers=headers).status_code == 403
    assert client.post("/api/sessions", json={"name": "x"}, headers=headers).status_code == 403
    assert client.get("/api/entries", headers=headers).status_code == 403
    own = {"Origin": address, "Sec-Fetch-Site": "same-origin"}
    assert client.post("/classify", content=picture(0), headers=own).status_code == 200
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_token_is_needed_for_all_but_the_page(bundle: Bundle, tmp_path: Path) -> None:
    rules = Rules(token=TOKEN, public=app.PUBLIC)
    with serving(bundle, tmp_path / "j.sqlite", rules) as url, httpx.Client(base_url=url) as client:
        paths = ("/api/health", "/api/entries", "/metrics", "/openapi.json", "/v2", "/events", "/nonesuch")
        for path in paths:
            for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer"}):
                answer = client.get(path, headers=given)
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.post("/classify", content=picture(0)).status_code == 401
        assert client.get("/").status_code == 200
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post("/classify", content=picture(0), headers=known).status_code == 200


def test_nothing_beyond_this_machine_without_a_token() -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "lab-pc"):
        with pytest.raises(ServeError, match="token"):
            Rules(host).check()
        Rules(host, TOKEN).check()
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        Rules(host).check()
    with pytest.raises(ServeError, match="at least 16"):
        Rules(token="short").check()


def test_the_command_does_not_start_open(edge_all_program: Command, tmp_path: Path) -> None:
    done = edge_all_program("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "token" in done.stderr
    (tmp_path / "token").write_text("hushhush\n")
    done = edge_all_program("serve", "--host", "0.0.0.0", "--token-file", "token")
    assert done.returncode == 1
    assert "hushhush" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_the_command_serves_and_watches_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ["--bundle", str(bundle.path), "--port", "0", "--journal", "j.sqlite", "--watch", "in"]
    with subprocess.Popen(
        [PROGRAM, "serve", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout
            url = running.stdout.readline().strip()
            with httpx.Client(base_url=url, timeout=20) as client:
                assert client.get("/api/health").json()["watched"] == ["in"]
                with client.stream("GET", "events") as stream:
                    lines = stream.iter_lines()
                    assert next(lines).startswith("retry")
                    (tmp_path / "in" / "field.png").write_bytes(picture(1))
                    while not (line := next(lines)).startswith("data: "):
                        pass
                entry = json.loads(line.removeprefix("data: "))
                assert (entry["label"], Path(entry["file"]).name) == (CLASSES[1], "field.png")
                assert client.get(f"/api/entries/{entry['id']}/image").status_code == 200
                (tmp_path / "in" / "field.png").write_bytes(picture(2))
                assert client.get(f"/api/entries/{entry['id']}/image").status_code == 404
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 128 + signal.SIGTERM
        assert running.stderr
        assert "Traceback" not in running.stderr.read()


def test_a_name_that_is_rebound_is_not_this_server() -> None:
    open_to_all = Rules("0.0.0.0", TOKEN, names=("lab.example",))
    assert open_to_all.knows("192.168.1.2")
    assert open_to_all.knows("lab.example")
    assert open_to_all.knows(socket.gethostname())
    assert not open_to_all.knows("evil.example")
    assert not Rules().knows("192.168.1.2")


def test_what_is_too_large_is_refused_before_it_is_read(client: Any, address: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(security, "MAX_BODY", 100_000)
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100001\r\n\r\n".encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 413")
    chunks = (bytes(10_000) for _ in range(30))
    assert client.post("/classify", content=chunks).status_code == 413
    assert client.post("/api/review", content=bytes(70_000)).status_code == 413


def test_a_slow_client_is_let_go(address: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(security, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.2)
    host, port = address.removeprefix("http://").split(":")
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: 127."):
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(sent)
            assert raw.recv(4096) == b""
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        raw.sendall(f"POST /classify HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\n\r\nabc".encode())
        assert raw.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_client_may_ask_so_often(bundle: Bundle, tmp_path: Path) -> None:
    rules = Rules(rate=1, public=app.PUBLIC)
    with serving(bundle, tmp_path / "j.sqlite", rules) as url, httpx.Client(base_url=url) as client:
        answers = [client.get("/v2/health/live") for _ in range(4)]
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_rates_of_a_flood_of_addresses_take_no_memory() -> None:
    rates = Rates(5)
    assert not any(rates.seconds_to_wait(str(i)) for i in range(5000))
    assert len(rates._buckets) <= 1024


def test_there_is_only_so_much_room(client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(service, "MAX_WAITING", 0)
    answer = client.post("/classify", content=picture(0))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    monkeypatch.undo()
    monkeypatch.setattr(events, "MAX_LISTENERS", 0)
    assert client.get("/events").status_code == 503


def test_many_at_once_get_their_own_answers(address: str) -> None:
    wrong: list[str] = []

    def ask(channel: int) -> None:
        with httpx.Client(base_url=address, timeout=20) as client:
            for seed in range(15):
                answer = client.post("/classify", content=picture(channel, seed))
                if answer.status_code != 503 and answer.json()["label"] != CLASSES[2 - channel]:
                    wrong.append(answer.text)

    threads = [threading.Thread(target=ask, args=(channel,)) for channel in (0, 1, 2, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_mutated_requests_get_no_failure(client: Any, address: str) -> None:
    """200 requests with bytes changed, left out or put in; the server answers or closes, and goes on."""
    host, port = address.removeprefix("http://").split(":")
    head = f"Host: {host}:{port}\r\nConnection: close\r\n"
    form = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + picture(0) + b"\r\n--x--\r\n"
    )
    infer = json.dumps({"inputs": [{"name": "encoded", "datatype": "BYTES", "shape": [1], "data": ["AAAA"]}]}).encode()
    review = json.dumps({"id": 1, "label": "Blue"}).encode()
    seeds = [
        f"POST {path} HTTP/1.1\r\n{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        for path, kind, body in (
            ("/classify?record=true", "multipart/form-data; boundary=x", form),
            ("/classify", "image/png", picture(1)),
            ("/v2/models/colour/infer", "application/json", infer),
            ("/api/review", "application/json", review),
            ("/api/entries?limit=3", "text/plain", b""),
        )
    ]
    rng = random.Random(0)
    for i in range(200):
        request = bytearray(seeds[i % len(seeds)])
        if i % 10 == 4:
            request = request.replace(b"POST /api/entries", b"GET /api/entries")
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(request) if rng.random() < 0.5 else min(len(request), 250))
            request[at : at + rng.choice((0, 1, 1, 3))] = rng.randbytes(rng.choice((0, 1, 1, 2)))
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := raw.recv(65536):
                    answer += part
            except ConnectionResetError:
                continue
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert status < 500 or status == 503, (bytes(request[:300]), answer[:300])
    assert client.get("/v2/health/live").status_code == 200


def test_an_address_that_is_taken_is_said() -> None:
    with server.bind("127.0.0.1", 0) as taken:
        taken.listen()
        with pytest.raises(ServeError, match="cannot listen there"):
            server.bind("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ServeError, match="cannot listen there"):
        server.bind("192.0.2.1", 0)
