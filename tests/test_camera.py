"""The camera: pixels of every form, the gate, and Micro-Manager's demo camera."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_camera import demo, field
from PIL import Image, ImageFilter

from edge_all.camera import Frame, gate, micromanager
from edge_all.camera.gate import Gate
from edge_all.camera.micromanager import open_camera
from edge_all.camera.pixels import to_rgb
from edge_all.errors import CameraError


class TestPixels:
    def test_colour_is_put_in_order(self) -> None:
        bgra = np.array([[[1, 2, 3, 0], [4, 5, 6, 0]]], np.uint8)
        assert to_rgb(bgra.view(np.uint32)[..., 0], 4, 8).tolist() == [[[3, 2, 1], [6, 5, 4]]]
        deep = (bgra.astype(np.uint16) * 257 >> 4).view(np.uint64)[..., 0]
        assert to_rgb(deep, 4, 12).tolist() == [[[3, 2, 1], [6, 5, 4]]]

    def test_grey_is_three_equal_channels_of_8_bits(self) -> None:
        assert to_rgb(np.array([[0, 7, 255]], np.uint8), 1, 8).tolist() == [[[0] * 3, [7] * 3, [255] * 3]]
        deep = np.array([[0, 16, 4095, 65535]], np.uint16)
        assert to_rgb(deep, 1, 12)[0, :, 1].tolist() == [0, 1, 255, 255]
        assert to_rgb(deep, 1, 16)[0, :, 1].tolist() == [0, 0, 15, 255]
        assert to_rgb(deep, 1, 12).flags.c_contiguous

    @pytest.mark.parametrize(("kind", "components"), [(np.uint32, 1), (np.uint8, 3), (np.float32, 1)])
    def test_other_forms_are_refused(self, kind: Any, components: int) -> None:
        with pytest.raises(CameraError, match="PixelType"):
            to_rgb(np.zeros((2, 2), kind), components, 8)


class TestGate:
    """On a drawn field, of which each frame has noise of its own."""

    def look(self, judge: Gate, picture: Image.Image, light: float = 1.0) -> Sequence[str]:
        """Six frames of one picture."""
        rng, pixels = np.random.default_rng(0), np.asarray(picture, np.float32)
        states: list[str] = []
        for _ in range(6):
            noisy = np.clip(pixels * light + rng.normal(0, 5, pixels.shape), 0, 255).astype(np.uint8)
            states.append(judge.look(Image.fromarray(noisy)))
        return states

    def test_a_field_that_stays_settles_whatever_the_lamp(self) -> None:
        judge = Gate()
        assert self.look(judge, field()) == ["moving"] * gate.HOLD + ["settled"] * 3
        assert self.look(judge, field(), light=0.8) == ["settled"] * 6

    def test_a_field_that_moves_is_moving(self) -> None:
        judge, pixels = Gate(), np.asarray(field())
        shifted = [Image.fromarray(np.roll(pixels, 3 * i, axis=0)) for i in range(9)]
        assert [judge.look(picture) for picture in shifted] == ["moving"] * 9
        assert self.look(judge, shifted[-1])[-1] == "settled"

    @pytest.mark.parametrize("blur", [1.5, 3.0])
    def test_a_blurred_field_is_out_of_focus(self, blur: float) -> None:
        judge = Gate()
        states = self.look(judge, field().filter(ImageFilter.GaussianBlur(blur)))
        assert states[gate.HOLD :] == ["unfocused"] * 3, "noise is no detail"
        assert self.look(judge, field())[-1] == "settled"

    def test_a_field_that_gets_less_sharp_while_it_stays_is_out_of_focus(self) -> None:
        judge = Gate()
        assert self.look(judge, field())[-1] == "settled"
        blurred = [field().filter(ImageFilter.GaussianBlur(0.1 * i)) for i in range(8)]
        assert "moving" not in [judge.look(picture) for picture in blurred]
        assert self.look(judge, blurred[-1])[-1] == "unfocused"
        assert self.look(Gate(), blurred[-1])[-1] == "settled", "by itself it could be a sharp one of less detail"

    def test_other_fields_of_the_smear_are_in_focus(self) -> None:
        judge = Gate()
        for seed in range(5):
            assert self.look(judge, field(seed))[-1] == "settled"

    @pytest.mark.parametrize("size", [(1, 1), (3000, 5), (40, 1000)])
    def test_any_picture_is_judged(self, size: tuple[int, int]) -> None:
        judge = Gate()
        states = [judge.look(Image.new("RGB", size)) for _ in range(6)]
        assert states[-1] == "unfocused", "nothing is to be seen"
        assert judge.look(Image.new("RGB", (64, 64))) == "moving"


@pytest.mark.usefixtures("adapters")
class TestMicroManager:
    """The demo camera, through Micro-Manager's own core."""

    def frames(self, source: Any, count: int) -> list[Frame]:
        found: list[Frame] = []
        while len(found) < count:
            if frame := source.next(2):
                found.append(frame)
        return found

    def test_frames_come_in_order_and_fresh(self, tmp_path: Path) -> None:
        source = open_camera(demo(tmp_path, "Artificial Waves"))
        try:
            assert source.name == "Camera (DemoCamera DCam)"
            frames = self.frames(source, 20)
            assert {frame.pixels.shape for frame in frames} == {(512, 512, 3)}
            for before, after in itertools.pairwise(frames):
                assert after.received > before.received
                assert (after.pixels != before.pixels).any()
            ages = [-(self.frames(source, 1)[0].received - time.monotonic()) for _ in range(20)]
            assert 0 <= sorted(ages)[10] < 0.02
        finally:
            source.close()

    @pytest.mark.parametrize(("kind", "bits"), [("8bit", "8"), ("16bit", "12"), ("64bitRGB", "16")])
    def test_every_kind_of_pixels(self, tmp_path: Path, kind: str, bits: str) -> None:
        source = open_camera(demo(tmp_path, "Artificial Waves", PixelType=kind, BitDepth=bits))
        try:
            (frame,) = self.frames(source, 1)
            assert frame.pixels.dtype == np.uint8 and frame.pixels.shape == (512, 512, 3)
            assert frame.pixels.std() > 1
        finally:
            source.close()

    def test_red_is_red(self, tmp_path: Path) -> None:
        """The adapter's test pattern begins with bands of blue, green and red, which become brighter to the right."""
        source = open_camera(demo(tmp_path))
        try:
            (frame,) = self.frames(source, 1)
        finally:
            source.close()
        bands = frame.pixels[32 : 32 + 3 * 64 : 64, -1].astype(int)
        assert bands.tolist() == [[0, 0, 255], [0, 255, 0], [255, 0, 0]]

    def test_a_camera_that_goes_is_an_error_and_can_be_opened_again(self, tmp_path: Path) -> None:
        path = demo(tmp_path)
        source = open_camera(path)
        self.frames(source, 1)
        source._core.stopSequenceAcquisition()
        source._core.unloadDevice("Camera")
        with pytest.raises(CameraError, match="cable"):
            for _ in range(100):
                source.next(0.1)
        source.close()
        source.close()
        again = open_camera(path)
        self.frames(again, 1)
        again.close()

    def test_a_silent_camera_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(micromanager, "_SILENT_SECONDS", 0.3)
        source = open_camera(demo(tmp_path))
        source._patience, source._latest = 0.3, time.monotonic() - 1
        try:
            monkeypatch.setattr(source._core, "getRemainingImageCount", lambda: 0)
            with pytest.raises(CameraError, match=r"no image for 0\.3 s"):
                source.next(1)
        finally:
            source.close()

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "names no camera"),
            ("Device,Camera,Nonesuch,DCam\n", "Nonesuch"),
            ("Property,Core,Camera,Camera\n", "Camera"),
            ("\xff\x00 rubbish\n", "names no camera"),
        ],
    )
    def test_a_configuration_that_cannot_be_used_is_said_in_a_line(self, tmp_path: Path, text: str, words: str) -> None:
        path = tmp_path / "bad.cfg"
        path.write_text(text, encoding="latin-1")
        with pytest.raises(CameraError, match=words) as error:
            open_camera(path)
        assert "\n" not in str(error.value)
        assert "bad.cfg" in str(error.value)

    def test_the_process_ends_in_peace(self, tmp_path: Path) -> None:
        """Threads of the core must not call Python while it ends: without care, every fourth process crashes."""
        path = demo(tmp_path, Exposure="1")
        code = (
            "import sys; from pathlib import Path; from edge_all.camera.micromanager import open_camera\n"
            "source = open_camera(Path(sys.argv[1]))\n"
            "frames = [source.next(2) for _ in range(20)]\n"
            "source.close()"
        )
        running = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(6)]
        assert [process.wait(60) for process in running] == [0] * 6

    def test_nothing_is_left_when_it_is_opened_many_times(self, tmp_path: Path) -> None:
        path = demo(tmp_path)
        open_camera(path).close()
        before = threading.active_count()
        for _ in range(10):
            source = open_camera(path)
            self.frames(source, 1)
            source.close()
        assert threading.active_count() == before
