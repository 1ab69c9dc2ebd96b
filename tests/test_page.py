"""The page in a real browser: an image is dropped, its answer read and reviewed by keyboard; no other host is asked."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from helpers_bundle import CLASSES, colour_picture, encoded, write_colour_bundle
from helpers_camera import LOST_AND_FOUND, Scene, tinted
from helpers_drift import picture as drift_picture
from helpers_drift import write_drift_bundle

pytest.importorskip("fastapi", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx", reason="httpx is not installed")
api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from helpers_serve import TOKEN, serving  # noqa: E402

from edge_all.serve import app  # noqa: E402
from edge_all.serve.security import Rules  # noqa: E402

DROP = """async ([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, {type: "image/png"}));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not program:
        pytest.skip("no chromium is installed")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


class Watched:
    """A page of the browser, and what it did that it should not do."""

    def __init__(self, browser: Any, address: str) -> None:
        self.address = address
        self.context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(address)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and "401" not in message.text:
            self.wrong.append(message.text)

    def _request(self, request: Any) -> None:
        if urlsplit(request.url).netloc not in (urlsplit(self.address).netloc, "") and "blob:" not in request.url:
            self.wrong.append(request.url)

    def drop(self, channel: int, seed: int = 0) -> None:
        picture = base64.b64encode(encoded(colour_picture(channel, seed), "PNG")).decode()
        self.page.evaluate(DROP, [f"field-{channel}-{seed}.png", picture])

    def reads(self, selector: str, text: str) -> None:
        api.expect(self.page.locator(selector)).to_contain_text(text)

    def close(self) -> None:
        self.context.close()
        assert self.wrong == []


@pytest.fixture
def watched(browser: Any, tmp_path: Path) -> Iterator[Watched]:
    bundle = write_colour_bundle(tmp_path / "colour")
    with serving(bundle, tmp_path / "journal.sqlite") as address:
        opened = Watched(browser, address)
        yield opened
        opened.close()


def test_an_image_is_dropped_read_and_reviewed_by_keyboard(watched: Watched) -> None:
    page = watched.page
    watched.reads("#health", "live")
    for channel in (0, 1, 2):
        watched.drop(channel)
        watched.reads("#label", CLASSES[2 - channel])
        watched.reads("#status", "Clear answer")
    watched.reads("#news", CLASSES[0])
    api.expect(page.locator("#image")).to_be_visible()
    assert page.evaluate("document.getElementById('image').naturalWidth") > 0
    watched.reads("#queue-title", "(3)")
    page.keyboard.press("ArrowRight")
    watched.reads("#answer-title", "Answer 1")
    page.keyboard.press("Enter")
    watched.reads("#queue-title", "(2)")
    watched.reads("#answer-title", "Answer 2")
    page.keyboard.press("1")
    watched.reads("#queue-title", "(1)")
    page.keyboard.press("Enter")
    api.expect(page.locator("#queue-empty")).to_be_visible()
    watched.reads("#latest li:nth-child(2)", f"✓ {CLASSES[0]}")
    page.keyboard.press("?")
    api.expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    watched.drop(0, seed=1)
    watched.reads("#answer-title", "Newest answer")
    watched.reads("#queue-title", "(1)")
    page.click("#queue button")
    page.keyboard.press("Enter")
    api.expect(page.locator("#queue-empty")).to_be_visible()


def test_an_image_that_shows_none_of_the_classes_is_reviewed_with_one_key(watched: Watched) -> None:
    page = watched.page
    page.fill("#name", "S-8")
    page.keyboard.press("Enter")
    watched.reads("#smear-name", "S-8")
    watched.drop(0)
    watched.reads("#queue-title", "(1)")
    page.locator("#answer").focus()
    page.keyboard.press("0")
    api.expect(page.locator("#queue-empty")).to_be_visible()
    watched.reads("#latest li", "✓ no class")
    watched.reads("#reviewed", "Reviewed: no class")
    watched.reads("#classes button[aria-pressed=true]", "0 None of these")
    watched.reads("#counts tbody tr:last-child", "no class1")
    page.select_option("#language", "de")
    watched.reads("#reviewed", "keine Klasse")
    watched.reads("#classes button:last-child", "0 Keine davon")
    page.click("#undo")
    watched.reads("#queue-title", "(1)")


def test_a_smear_is_counted_and_downloaded(watched: Watched) -> None:
    page = watched.page
    page.fill("#name", "=S-7")
    page.keyboard.press("Enter")
    watched.reads("#smear-name", "Open: =S-7")
    for seed in range(3):
        watched.drop(0, seed)
        watched.reads("#file", f"field-0-{seed}.png")
    watched.reads("#counts tbody tr:nth-child(3)", "3")
    watched.reads("#counts tbody tr:nth-child(3)", "100.0%")
    with page.expect_download() as download:
        page.click("#csv")
    text = Path(download.value.path()).read_text("utf-8-sig")
    assert f'"{CLASSES[2]}","3","1.0000"' in text
    assert '"\'=S-7"' in text
    page.click("#end")
    watched.reads("#smear-name", "Ended: =S-7")


def test_what_is_refused_is_said_and_the_language_changes(watched: Watched) -> None:
    page = watched.page
    page.evaluate(DROP, ["<img src=x onerror=alert(1)>.png", base64.b64encode(b"none").decode()])
    watched.reads("#message", "not an image")
    watched.wrong[:] = [line for line in watched.wrong if "422" not in line]
    page.select_option("#language", "de")
    watched.reads("footer", "kein Medizinprodukt")
    assert page.get_attribute("html", "lang") == "de"
    missing = page.evaluate(
        """async () => { const {TEXTS} = await import("/texts.js");
        return Object.keys(TEXTS.en).filter((key) => !(key in TEXTS.de)).length
             + Object.keys(TEXTS.de).filter((key) => !(key in TEXTS.en)).length; }"""
    )
    assert missing == 0


def test_the_token_is_asked_for_once(browser: Any, tmp_path: Path) -> None:
    bundle = write_colour_bundle(tmp_path / "colour")
    with serving(bundle, tmp_path / "journal.sqlite", Rules(token=TOKEN, public=app.PUBLIC)) as address:
        watched = Watched(browser, address)
        page = watched.page
        for given in ("wrong", TOKEN):
            api.expect(page.locator("#ask")).to_be_visible()
            page.fill("#token", given)
            page.keyboard.press("Enter")
            if given == "wrong":
                watched.reads("#ask-message", "not the token")
        watched.reads("#health", "live")
        watched.drop(1)
        watched.reads("#label", CLASSES[1])
        assert page.evaluate("document.cookie") == ""
        assert TOKEN not in page.url
        watched.close()


def test_nothing_keeps_anybody_out(browser: Any, tmp_path: Path) -> None:
    """Deque's axe-core finds no barrier, in light and dark, with an answer, and with the help shown."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    bundle = write_colour_bundle(tmp_path / "colour")
    with serving(bundle, tmp_path / "journal.sqlite") as address:
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, bypass_csp=True)
            page = context.new_page()
            page.goto(address)
            picture = base64.b64encode(encoded(colour_picture(0), "PNG")).decode()
            page.evaluate(DROP, ["field.png", picture])
            api.expect(page.locator("#image")).to_be_visible()
            for key in ("Escape", "?"):
                page.keyboard.press(key)
                found = axe.Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
            context.close()


def test_the_camera_is_shown_and_a_frame_kept_by_keyboard(browser: Any, tmp_path: Path) -> None:
    bundle = write_colour_bundle(tmp_path / "colour")
    scene = Scene(tinted(0))
    with serving(bundle, tmp_path / "journal.sqlite", camera=scene.open, expected=LOST_AND_FOUND) as address:
        watched = Watched(browser, address)
        page = watched.page
        watched.reads("#camera-state", "Settled")
        watched.reads("#camera-label", CLASSES[2])
        frame = page.locator("#frame")
        api.expect(frame).to_have_js_property("naturalWidth", 256)
        api.expect(frame).not_to_have_attribute("src", page.get_attribute("#frame", "src"))
        watched.reads("#label", "No answer yet")
        page.keyboard.press("k")
        watched.reads("#camera-message", "Kept: ")
        watched.reads("#label", CLASSES[2])
        watched.reads("#queue-title", "(1)")
        (kept,) = (tmp_path / "frames").iterdir()
        watched.reads("#file", kept.name)
        api.expect(page.locator("#image")).to_have_js_property("naturalWidth", 256)
        scene.moves = 5
        watched.reads("#camera-state", "Moving")
        watched.reads("#camera-advice", "last settled frame")
        page.select_option("#language", "de")
        watched.reads("#camera-state", "In Bewegung")
        page.select_option("#language", "en")
        scene.moves, scene.pixels = 0, tinted(1)
        watched.reads("#camera-label", CLASSES[1])
        scene.gone = True
        watched.reads("#camera-lost", "CAMERA LOST")
        watched.reads("#camera-advice", "it is unplugged")
        api.expect(page.locator("#keep")).to_be_disabled()
        api.expect(frame).to_be_hidden()
        watched.reads("#camera-label", "")
        scene.gone = False
        watched.reads("#camera-state", "Settled")
        api.expect(frame).to_be_visible()
        page.click("#keep")
        watched.reads("#label", CLASSES[1])
        watched.reads("#queue-title", "(2)")
        watched.close()


def test_without_a_camera_none_is_shown(watched: Watched) -> None:
    watched.reads("#health", "live")
    api.expect(watched.page.locator("#camera")).to_be_hidden()
    watched.page.keyboard.press("k")
    watched.drop(1)
    watched.reads("#label", CLASSES[1])


def test_the_camera_keeps_nobody_out(browser: Any, tmp_path: Path) -> None:
    """axe-core finds no barrier while the camera shows a field, while it moves, and when it is lost."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    bundle = write_colour_bundle(tmp_path / "colour")
    scene = Scene(tinted(0))
    with serving(bundle, tmp_path / "journal.sqlite", camera=scene.open, expected=LOST_AND_FOUND) as address:
        for scheme in ("light", "dark"):
            context = browser.new_context(color_scheme=scheme, bypass_csp=True)
            page = context.new_page()
            page.goto(address)
            for moves, selector, text in (
                (0, "#camera-state", "Settled"),
                (5, "#camera-state", "Moving"),
                (None, "#camera-lost", "CAMERA LOST"),
            ):
                if moves is None and scheme == "light":
                    continue
                scene.moves, scene.gone = moves or 0, moves is None
                api.expect(page.locator(selector)).to_contain_text(text)
                found = axe.Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
            scene.moves, scene.gone = 0, False
            api.expect(page.locator("#camera-state")).to_contain_text("Settled")
            context.close()


def test_fields_that_look_unlike_the_training_images_are_said(browser: Any, tmp_path: Path) -> None:
    with serving(write_drift_bundle(tmp_path / "bundle"), tmp_path / "journal.sqlite", said=[]) as address:
        for number in range(4):
            httpx.post(f"{address}/classify", content=drift_picture(number), timeout=20).raise_for_status()
        opened = Watched(browser, address)
        opened.reads("#health", "live")
        assert "unlike" not in opened.page.locator("#health").inner_text().lower()
        for number in range(4):
            httpx.post(f"{address}/classify", content=drift_picture(number, 60), timeout=20).raise_for_status()
        opened.page.reload()
        opened.reads("#health", "THE LAST 4 FIELDS LOOK UNLIKE THE TRAINING IMAGES")
        opened.reads("#health", "Most like: darker")
        opened.page.select_option("#language", "de")
        opened.reads("#health", "Am ehesten: dunkler")
        opened.close()
