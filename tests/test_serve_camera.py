"""A server with a camera: the live view, its labels, frames that are kept, and a camera that is lost and found."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES
from helpers_camera import LOST_AND_FOUND, Scene, demo, tinted
from helpers_command import PROGRAM, Command
from PIL import Image, ImageFilter

from edge_all.bundle import Bundle
from edge_all.camera.micromanager import open_camera
from edge_all.errors import TargetError
from edge_all.prediction import Prediction

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")

from helpers_serve import TOKEN, service_of, serving  # noqa: E402

from edge_all.serve import app  # noqa: E402
from edge_all.serve import camera as serve_camera  # noqa: E402
from edge_all.serve.camera import Camera  # noqa: E402
from edge_all.serve.events import Hub  # noqa: E402
from edge_all.serve.security import Rules  # noqa: E402


def until(holds: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for something, and give it."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def scene() -> Scene:
    return Scene(tinted(0))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost camera is looked for soon."""
    monkeypatch.setattr(serve_camera, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(serve_camera, "_LONGEST_PAUSE", 0.2)


@pytest.fixture
def watched(served: Bundle, tmp_path: Path, scene: Scene) -> Iterator[Any]:
    """A client of a server with a drawn camera."""
    with (
        serving(served, tmp_path / "j.sqlite", camera=scene.open) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        yield client


def state(client: Any) -> str:
    return str(client.get("/camera").json()["state"])


def test_the_label_is_that_of_the_last_settled_frame(watched: Any, scene: Scene) -> None:
    until(lambda: state(watched) == "settled")
    shown = watched.get("/camera").json()
    assert (shown["name"], shown["error"]) == ("Drawn (no hardware)", "")
    assert (shown["answer"]["label"], shown["answer"]["status"]) == (CLASSES[2], "ok")
    assert shown["answer"]["frame_ms"] > 0
    scene.moves = 5
    until(lambda: state(watched) == "moving")
    scene.pixels = tinted(1)
    assert watched.get("/camera").json()["answer"]["label"] == CLASSES[2]
    scene.moves = 0
    until(lambda: state(watched) == "settled")
    assert watched.get("/camera").json()["answer"]["label"] == CLASSES[1]
    scene.pixels = np.asarray(Image.fromarray(scene.pixels).filter(ImageFilter.GaussianBlur(4)))
    until(lambda: state(watched) == "unfocused")
    assert watched.get("/api/health").json()["camera"] == "unfocused"
    assert watched.get("/api/entries").json()["entries"] == []


def test_pictures_come_one_by_one(watched: Any) -> None:
    begun = time.monotonic()
    pictures = [watched.get("/camera/frame.jpg") for _ in range(10)]
    assert {answer.headers["content-type"] for answer in pictures} == {"image/jpeg"}
    assert Image.open(io.BytesIO(pictures[0].content)).size == (256, 256)
    assert time.monotonic() - begun > 9 * serve_camera._REST_SECONDS * 0.9


def test_a_frame_is_kept_with_its_answer(watched: Any, scene: Scene, tmp_path: Path) -> None:
    until(lambda: state(watched) == "settled")
    live = watched.get("/camera").json()["answer"]
    entry = watched.post("/camera/keep").json()
    file = Path(entry["file"])
    assert (file.parent, file.suffix) == (tmp_path / "frames", ".png")
    assert entry["sha256"][:16] in file.name
    assert (np.asarray(Image.open(file)) == scene.pixels).all()
    assert entry["label"] == live["label"]
    assert entry["probabilities"] == live["probabilities"], "the live view sees the pixels of the file"
    assert watched.get("/api/entries").json()["entries"][0] == entry
    assert watched.get("/api/queue").json()["entries"] == [entry]
    assert watched.get(f"/api/entries/{entry['id']}/image").headers["content-type"] == "image/jpeg"
    assert watched.post("/camera/keep").json() == entry, "the same frame is kept once"
    scene.pixels = tinted(1)
    until(lambda: watched.get("/camera").json()["answer"]["label"] == CLASSES[1])
    assert watched.post("/camera/keep").json()["id"] == entry["id"] + 1
    assert len(list((tmp_path / "frames").iterdir())) == 2
    file.unlink()
    scene.pixels = tinted(0)
    until(lambda: watched.get("/camera").json()["answer"]["label"] == CLASSES[2])
    again = watched.post("/camera/keep").json()
    assert (again["id"], Path(again["file"]).is_file()) == (entry["id"], True), "its file was gone"
    assert len(list((tmp_path / "frames").iterdir())) == 2


def test_a_frame_that_cannot_be_written_is_not_in_the_journal(served: Bundle, tmp_path: Path, scene: Scene) -> None:
    (tmp_path / "frames").write_bytes(b"a file is in the way")
    words = ["frames: the frame cannot be kept"]
    with (
        serving(served, tmp_path / "j.sqlite", camera=scene.open, expected=words) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        until(lambda: state(client) == "settled")
        answer = client.post("/camera/keep")
        assert answer.status_code == 503
        assert "--keep" in answer.json()["error"]
        assert client.get("/api/entries").json()["entries"] == []


def test_a_lost_camera_is_said_and_found_again(served: Bundle, tmp_path: Path, scene: Scene) -> None:
    with (
        serving(served, tmp_path / "j.sqlite", camera=scene.open, expected=LOST_AND_FOUND) as url,
        httpx.Client(base_url=url, timeout=20) as client,
        client.stream("GET", "/events") as stream,
    ):
        with httpx.Client(base_url=url, timeout=20) as asking:
            until(lambda: state(asking) == "settled")
            scene.gone = True
            until(lambda: state(asking) == "lost")
            assert asking.get("/camera").json()["answer"] is None
            assert asking.get("/camera/frame.jpg").status_code == 204
            assert asking.post("/camera/keep").status_code == 503
            scene.gone = False
            until(lambda: state(asking) == "settled")
            figures = dict(
                line.split() for line in asking.get("/metrics").text.splitlines() if line.startswith("edge_all_camera")
            )
            assert (figures["edge_all_camera_lost_total"], figures["edge_all_camera_gives_images"]) == ("1", "1")
            assert int(figures["edge_all_camera_frames_total"]) > int(figures["edge_all_camera_settled_total"]) > 0
        told = []
        for line in stream.iter_lines():
            if line.startswith('data: {"name"'):
                told.append(json.loads(line.removeprefix("data: "))["state"])
            if told[-1:] == ["settled"] and "lost" in told:
                break
    assert scene.opened == 2
    changes = [now for now, before in zip(told, [None, *told], strict=False) if now != before]
    assert changes[-3:] == ["lost", "moving", "settled"]


def test_a_camera_that_fails_in_its_own_way_does_not_end_it(served: Bundle, tmp_path: Path, scene: Scene) -> None:
    fails = [True]

    def opened() -> Any:
        if fails:
            raise ZeroDivisionError(fails.pop())
        return scene.open()

    with (
        serving(served, tmp_path / "j.sqlite", camera=opened, expected=["ZeroDivisionError", "again"]) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        until(lambda: state(client) == "settled")


def test_without_a_camera_there_is_none(client: Any) -> None:
    for method, path in (("GET", "/camera"), ("GET", "/camera/frame.jpg"), ("POST", "/camera/keep")):
        answer = client.request(method, path)
        assert answer.status_code == 404
        assert "--camera" in answer.json()["error"]
    assert client.get("/api/health").json()["camera"] is None
    assert "camera" not in client.get("/metrics").text
    described = client.get("/openapi.json").json()["paths"]
    assert {"/camera", "/camera/frame.jpg", "/camera/keep"} <= set(described)


def test_nobody_else_sees_the_camera(served: Bundle, tmp_path: Path, scene: Scene) -> None:
    rules = Rules(token=TOKEN, public=app.PUBLIC)
    with (
        serving(served, tmp_path / "j.sqlite", rules, camera=scene.open) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        known = {"Authorization": f"Bearer {TOKEN}"}
        for method, path in (("GET", "/camera"), ("GET", "/camera/frame.jpg"), ("POST", "/camera/keep")):
            assert client.request(method, path).status_code == 401
            assert client.request(method, path, headers={"Origin": "https://evil.example"}).status_code == 403
            assert client.request(method, path, headers={"Host": "evil.example"}).status_code == 403
        until(lambda: client.get("/camera", headers=known).json()["state"] == "settled")
        assert client.get("/camera/frame.jpg", headers=known).content.startswith(b"\xff\xd8")
        assert client.post("/camera/keep", headers=known).status_code == 200


class Here:
    """A loop that does at once what it is told."""

    def call_soon_threadsafe(self, does: Callable[..., None], *values: object) -> None:
        does(*values)


@pytest.fixture
def alone(served: Bundle, tmp_path: Path, scene: Scene) -> Iterator[tuple[Camera, list[str]]]:
    """A camera without a server, not begun yet, and what is told."""
    told: list[str] = []
    service = service_of(served, told.append)
    camera = Camera(scene.open, tmp_path, service, Hub())
    yield camera, told
    camera.close()
    service.close()


def test_an_engine_that_fails_is_said_and_asked_again(alone: tuple[Camera, list[str]]) -> None:
    camera, told = alone
    classifier, fails = camera._service.classifier, True
    plain = classifier.classify_pixels

    def classify(pixels: Any) -> Any:
        if fails:
            raise TargetError("no memory")
        return plain(pixels)

    classifier.classify_pixels = classify  # type: ignore[method-assign]
    camera.start(Here())  # type: ignore[arg-type]
    until(lambda: camera.as_json()["error"])
    assert (camera.state, camera.as_json()["answer"]) == ("settled", None)
    fails = False
    until(lambda: camera.as_json()["answer"])
    assert told == ["camera: no memory; trying again"]


def test_a_slow_graph_takes_half_of_the_time_at_most(alone: tuple[Camera, list[str]]) -> None:
    camera, _ = alone
    classifier = camera._service.classifier
    plain = classifier.classify_pixels

    def slow(pixels: np.ndarray) -> Prediction:
        time.sleep(0.2)
        return plain(pixels)

    classifier.classify_pixels = slow  # type: ignore[method-assign]
    camera.start(Here())  # type: ignore[arg-type]
    until(lambda: camera.figures.settled)
    before = camera.figures.settled
    time.sleep(1)
    assert 1 <= camera.figures.settled - before <= 3


@pytest.mark.usefixtures("adapters")
def test_the_demo_camera_is_unplugged_under_a_server(served: Bundle, tmp_path: Path) -> None:
    opened: list[Any] = []

    def again() -> Any:
        opened.append(open_camera(tmp_path / "demo.cfg"))
        return opened[-1]

    demo(tmp_path)
    with (
        serving(served, tmp_path / "j.sqlite", camera=again, expected=["Camera", "gives images again"]) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        until(lambda: state(client) == "settled")
        opened[0]._core.stopSequenceAcquisition()
        until(lambda: len(opened) == 2 and state(client) == "settled")


@pytest.mark.usefixtures("adapters")
@pytest.mark.skipif(os.name == "nt", reason="SIGTERM ends a process at once there")
def test_the_command_shows_the_demo_camera(tmp_path: Path) -> None:
    """With the built-in bundle, to which a test pattern is unfamiliar, so that it gets no label."""
    demo(tmp_path)
    words = ["--port", "0", "--journal", "j.sqlite", "--camera", "demo.cfg", "--keep", "kept"]
    with subprocess.Popen(
        [PROGRAM, "serve", *words], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout
            with httpx.Client(base_url=running.stdout.readline().strip(), timeout=20) as client:
                answer = until(lambda: client.get("/camera").json()["answer"])
                assert (answer["label"], answer["status"]) == (None, "unfamiliar")
                entry = client.post("/camera/keep").json()
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 128 + signal.SIGTERM
        assert running.stderr
        assert running.stderr.read().splitlines()[2:] == ["edge-all: interrupted"]
    (kept,) = (tmp_path / "kept").iterdir()
    assert (Path(entry["file"]), entry["label"]) == (kept, None)


def test_what_is_missing_is_said_before_the_server_starts(
    edge_all: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, installed = util.find_spec, True
    spec = find("numpy")
    monkeypatch.setattr(
        util, "find_spec", lambda name: find(name) if name != "pymmcore_plus" else spec if installed else None
    )
    done = edge_all("serve", "--camera", "none.cfg")
    assert done.returncode == 1
    assert "none.cfg: there is no such file" in done.stderr
    installed = False
    done = edge_all("serve", "--camera", "none.cfg")
    assert done.returncode == 1
    assert "pymmcore_plus" in done.stderr
    assert ".[camera]" in done.stderr
    done = edge_all("serve", "--keep", "kept")
    assert done.returncode == 1
    assert "--camera" in done.stderr
