"""The server lets nobody in who should not be, and nobody take more than a share. A real one, asked over HTTP."""

from __future__ import annotations

import json
import random
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers_bundle import CLASSES
from helpers_command import Command

from edge_all.bundle import Bundle

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from helpers_serve import TOKEN, picture, serving  # noqa: E402

from edge_all.errors import ServeError  # noqa: E402
from edge_all.serve import app, events, security, server, service  # noqa: E402
from edge_all.serve.security import Rates, Rules  # noqa: E402


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


def test_a_token_is_needed_for_all_but_the_page(served: Bundle, tmp_path: Path) -> None:
    rules = Rules(token=TOKEN, public=app.PUBLIC)
    with serving(served, tmp_path / "j.sqlite", rules) as url, httpx.Client(base_url=url) as client:
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


def test_a_client_may_ask_so_often(served: Bundle, tmp_path: Path) -> None:
    rules = Rules(rate=1, public=app.PUBLIC)
    with serving(served, tmp_path / "j.sqlite", rules) as url, httpx.Client(base_url=url) as client:
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
