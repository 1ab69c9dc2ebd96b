"""The server: the same answers as `classify`, the journal, live events. A real one, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from helpers_bundle import CLASSES, SIZE, write_colour_bundle
from helpers_command import PROGRAM, Command
from helpers_drift import BRIGHTNESS, write_drift_bundle
from helpers_drift import picture as drift_picture
from PIL import Image

from edge_all import bundle as bundles
from edge_all.bundle import Bundle

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from helpers_serve import picture, serving  # noqa: E402

from edge_all.journal import Entry, Journal  # noqa: E402
from edge_all.serve import app, uploads  # noqa: E402
from edge_all.serve.records import Records  # noqa: E402


def same(answer: dict[str, Any], other: dict[str, Any], *but: str) -> bool:
    return {k: v for k, v in answer.items() if k not in but} == {k: v for k, v in other.items() if k not in but}


def test_the_answer_is_that_of_classify(client: Any, served: Bundle, edge_all: Command, tmp_path: Path) -> None:
    (tmp_path / "field.png").write_bytes(picture(1))
    printed = json.loads(edge_all("classify", "field.png", "--bundle", served.path, "--json").stdout)
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


def test_a_new_journal_is_followed_from_its_beginning(tmp_path: Path) -> None:
    """Where one was begun in place of a damaged one, its ids begin again."""
    with Journal.open(tmp_path / "journal.sqlite") as journal:
        records = Records(journal, print)
        entry = journal.add(Entry("a.png", "0" * 64, 1, "ok", "Blue", "Blue", {"Blue": 1.0}))
        assert records._new(journal) == [entry]
        records._last = 99
        assert records._new(journal) == [entry]
        records.close()


def test_a_damaged_journal_is_said_once_and_the_pages_go_on(tmp_path: Path) -> None:
    told: list[str] = []

    async def follow(records: Records) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.8):
                await records.follow()

    with Journal.open(tmp_path / "journal.sqlite") as journal:
        records = Records(journal, told.append)
        journal.close()
        asyncio.run(follow(records))
        records.close()
    assert len(told) == 1
    assert "goes on trying" in told[0]


def test_health_and_figures(client: Any, served: Bundle) -> None:
    health = client.get("/api/health").json()
    assert (health["name"], health["digest"], health["classes"]) == (served.name, served.digest, list(CLASSES))
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
    assert f'digest="{served.digest}"' in after


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


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_the_command_serves_and_watches_a_folder(served: Bundle, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    words = ["--bundle", str(served.path), "--port", "0", "--journal", "j.sqlite", "--watch", "in"]
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


def test_a_bundle_that_is_replaced_is_followed(tmp_path: Path) -> None:
    told: list[str] = []
    old = write_colour_bundle(tmp_path / "colour")
    with serving(old, tmp_path / "j.sqlite", said=told) as url, httpx.Client(base_url=url, timeout=20) as client:

        def answered_by() -> str:
            answer = client.post("/classify", content=picture(1))
            assert (answer.status_code, answer.json()["label"]) == (200, CLASSES[1])
            return str(answer.json()["bundle_digest"])

        assert answered_by() == old.digest
        new = write_colour_bundle(old.path, known=("1" * 64,))
        assert _soon(lambda: answered_by() == new.digest != old.digest)
        health = client.get("/api/health").json()
        assert (health["digest"], health["problem"], health["probe"]["passed"]) == (new.digest, "", True)
        (old.path / "bundle.json").write_text("{}")
        assert {answered_by() for _ in range(3)} == {new.digest}
        assert _soon(lambda: "bundle.json" in client.get("/api/health").json()["problem"])
        assert ["answers now" in line for line in told] == [True, False]
        assert "goes on answering" in told[1]


def test_while_bundles_take_turns_each_answer_says_which_gave_it(tmp_path: Path) -> None:
    old = write_colour_bundle(tmp_path / "colour")
    content, record = {name: old.read(name) for name in old.record["files"]}, dict(old.record)
    done, digests = threading.Event(), {"colour": old.digest}
    with serving(old, tmp_path / "j.sqlite", said=[]) as url, httpx.Client(base_url=url, timeout=20) as client:

        def ask() -> set[tuple[str, str]]:
            pairs = set()
            with httpx.Client(base_url=url, timeout=20) as own:
                while not done.is_set():
                    answer = own.post("/classify", content=picture(2)).json()
                    pairs.add((answer["bundle"], answer["bundle_digest"]))
            return pairs

        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(ask) for _ in range(3)]
            try:
                for turn in ("one", "two", "three", "four"):
                    digests[turn] = bundles.write(old.path, cast(Any, record | {"name": turn}), content).digest
                    assert _soon(partial(_is_served, client, turn))
            finally:
                done.set()
        assert client.get("/v2/models/colour").status_code == 404
        pairs = set[tuple[str, str]]().union(*(part.result() for part in asked))
        assert len(pairs) > 1
        assert pairs <= set(digests.items())


def _is_served(client: Any, name: str) -> bool:
    return bool(client.get(f"/v2/models/{name}").status_code == 200)


def _soon(holds: Callable[[], bool]) -> bool:
    """Whether it holds within a while: the new bundle is loaded beside the answers of the old one."""
    until = time.monotonic() + 20
    while not (now := holds()) and time.monotonic() < until:
        time.sleep(0.02)
    return now


def test_a_changed_lamp_is_said_by_the_server_its_health_and_its_figures(tmp_path: Path) -> None:
    told: list[str] = []
    bundle = write_drift_bundle(tmp_path / "bundle")
    with (
        serving(bundle, tmp_path / "j.sqlite", said=told) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        entry = {}
        for number in range(12):
            brightness = BRIGHTNESS + (40 if 4 <= number < 8 else 0)
            sent = client.post("/classify", params={"record": True}, content=drift_picture(number, brightness))
            entry[number] = client.get(f"/api/entries/{sent.headers['Edge-All-Entry']}").json()
            if number in (2, 7):
                state = client.get("/api/health").json()["drift"]
                score = pytest.approx(2, abs=0.01)
                over = {"source": "", "score": score, "change": "lighter", "run": 4, "over": True}
                assert state == ([] if number == 2 else [over])
                assert ('edge_all_drift{source=""}' in client.get("/metrics").text) == (number == 7)
        assert [entry[number]["drift"] for number in (2, 7)] == [None, score]
        assert not client.get("/api/health").json()["drift"][0]["over"]
    assert ["again" in line for line in told] == [False, True]
    assert "stain, lamp or focus changed?" in told[0]
