"""A camera of our own, that shows what a test wants, and a configuration of Micro-Manager's demo camera."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from edge_all.camera import Frame
from edge_all.errors import CameraError

Pixels = npt.NDArray[np.uint8]


def field(seed: int = 0, colour: tuple[int, int, int] = (150, 60, 160), side: int = 256) -> Image.Image:
    """A drawn field: round cells, as wide as red cells are, with a little texture, on a bright ground."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), (225, 215, 230))
    draw = ImageDraw.Draw(picture)
    for x, y in rng.uniform(0, side, (40, 2)):
        radius = rng.uniform(7, 11)
        shade = rng.uniform(0.8, 1.1)
        fill = tuple(int(min(255, shade * value)) for value in colour)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.5)), np.float32)
    return Image.fromarray(np.clip(soft + rng.normal(0, 4, (side, side, 1)), 0, 255).astype(np.uint8))


def tinted(channel: int, seed: int = 0) -> Pixels:
    """A field in which one channel is the strongest (0 red, 1 green, 2 blue), ``uint8 [256, 256, 3]``."""
    return (np.asarray(field(seed)) * np.where(np.arange(3) == channel, 1.0, 0.6)).astype(np.uint8)


UNPLUGGED = "Drawn (no hardware): it is unplugged"

LOST_AND_FOUND = (f"{UNPLUGGED}; trying again", "gives images again")
"""What is told of a scene that was gone once."""


class Scene:
    """What a camera sees, to be changed while it runs.

    Attributes:
        pixels: The field, ``uint8 [H, W, 3]``.
        moves: Pixels that it moves by from frame to frame.
        gone: Whether the camera is unplugged.
        opened: How often it was opened.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.moves = 0
        self.gone = False
        self.opened = 0

    def open(self) -> SceneCamera:
        if self.gone:
            raise CameraError(UNPLUGGED)
        self.opened += 1
        return SceneCamera(self)


class SceneCamera:
    """A camera that shows a scene, 100 frames a second."""

    name = "Drawn (no hardware)"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._frames = 0
        self.closed = False

    def next(self, seconds: float) -> Frame | None:
        time.sleep(0.01)
        if self._scene.gone:
            raise CameraError(UNPLUGGED)
        self._frames += 1
        pixels = np.roll(self._scene.pixels, self._frames * self._scene.moves, axis=1)
        return Frame(pixels, time.monotonic())

    def close(self) -> None:
        self.closed = True


def demo(folder: Path, mode: str = "Color Test Pattern", **properties: str) -> Path:
    """A configuration of DemoCamera: 512 x 512 in RGB at 10 ms, and what else is given."""
    wanted = {"PixelType": "32bitRGB", "Exposure": "10", "Mode": mode} | properties
    lines = ["Property,Core,Initialize,0", "Device,Camera,DemoCamera,DCam", "Property,Core,Initialize,1"]
    lines += ["Property,Core,Camera,Camera", *(f"Property,Camera,{name},{value}" for name, value in wanted.items())]
    path = folder / "demo.cfg"
    path.write_text("\n".join(lines) + "\n")
    return path
