"""Pictures for people: a map laid over an image, or the answers to a frame's tiles, as PNG files.

The heat is drawn on a grey, darkened picture, so that colour means heat alone, in the colours of "inferno"
(https://bids.github.io/colormap), which rise evenly in brightness and which the colour-blind can tell apart.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from edge_all import NOTICE

LEAST = 640
"""The shorter side that a heat map's picture should have at least, in pixels; a smaller picture is enlarged."""

_LONGEST = 1024
"""The longer side of a drawn picture, in pixels, at most."""

_INFERNO = np.array(
    [
        (0, 0, 4),
        (27, 12, 65),
        (74, 12, 107),
        (120, 28, 109),
        (165, 44, 96),
        (207, 68, 70),
        (237, 105, 37),
        (251, 155, 6),
        (247, 209, 61),
        (252, 255, 164),
    ]
)

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
"""Of Okabe and Ito, for the colour-blind: https://jfly.uni-koeln.de/color/"""

GREY = "#808080"
"""Of what has no class."""

_OPAQUE = 0.75
"""How much of the hottest patch is colour; of one without heat nothing is."""

_DARKER = 0.6
"""How bright the grey picture stays, so that the hottest patch is brighter than the glass of a smear."""

_COLDEST = 0.3
"""Where in the colours the least heat begins: what is darker would look like a cell."""

_LINE, _MARGIN, _TEXT = 22, 12, 16

Pixels = npt.NDArray[np.uint8]


def palette(values: npt.NDArray[np.floating]) -> Pixels:
    """Colours ``uint8 [..., 3]`` of heat from 0 to 1."""
    steps = np.arange(len(_INFERNO)) / (len(_INFERNO) - 1)
    channels = [np.interp(values, steps, _INFERNO[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class, as ``#rrggbb``; they begin again where there are more classes than colours."""
    return {name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(names)}


def heat(picture: Pixels, values: npt.NDArray[np.floating], title: str, unit: str, notes: Sequence[str] = ()) -> bytes:
    """Lay a map over its picture.

    Args:
        picture: ``uint8 [h, w, 3]``.
        values: ``[rows, columns]``; what is below zero has no heat.
        title: Stands below the picture.
        unit: What the scale counts.
        notes: Sentences that stand below the scale.

    Returns:
        The PNG file.
    """
    base = _fitted(picture, enlarge=True)
    hottest = max(float(values.max()), 0.0)
    warm = np.clip(values / hottest, 0, 1) if hottest > 0 else np.zeros(values.shape)
    rows = np.arange(base.height) * values.shape[0] // base.height
    columns = np.arange(base.width) * values.shape[1] // base.width
    warm = warm[rows][:, columns]
    grey = np.asarray(base.convert("L"), dtype=np.float32)
    mixed = _mixed(grey, warm)

    lines = [*_wrapped([f"{title}"], base.width), "", *_wrapped([*notes, NOTICE], base.width)]
    sheet, pen = _sheet(Image.fromarray(mixed), len(lines) + 1)
    at = base.height + _MARGIN
    for line in lines[: lines.index("")]:
        at = _write(pen, line, at)
    bar = _mixed(np.full((12, 160), grey.mean()), np.tile(np.linspace(0, 1, 160), (12, 1)))
    sheet.paste(Image.fromarray(bar), (_MARGIN + 20, at + 4))
    pen.text((_MARGIN, at), "0", fill="black", font=_font())
    pen.text((_MARGIN + 190, at), f"{hottest:.2g} {unit}", fill="black", font=_font())
    at += _LINE
    for line in lines[lines.index("") + 1 :]:
        at = _write(pen, line, at)
    return _png(sheet)


def _mixed(grey: npt.NDArray[np.floating], warm: npt.NDArray[np.floating]) -> Pixels:
    """A grey picture, darkened, with heat from 0 to 1 over it; both ``[h, w]``."""
    share = (_OPAQUE * np.sqrt(warm))[..., None]
    colour = palette(_COLDEST + (1 - _COLDEST) * warm)
    mixed: Pixels = (_DARKER * grey[..., None] * (1 - share) + colour * share).round().astype(np.uint8)
    return mixed


class Outline(NamedTuple):
    """A rectangle to draw on a picture.

    Attributes:
        box: Left, top, right and bottom, in pixels of the picture.
        label: The class that gives the colour; empty for none.
        text: What is written in it, where there is room.
    """

    box: tuple[int, int, int, int]
    label: str
    text: str


def outlines(picture: Pixels, drawn: Sequence[Outline], counts: Mapping[str, int], classes: Sequence[str]) -> bytes:
    """Draw what each tile of a frame was answered.

    Args:
        picture: The frame, ``uint8 [h, w, 3]``.
        drawn: The tiles.
        counts: What stands below the picture, with numbers.
        classes: The classes, in order.

    Returns:
        The PNG file.
    """
    base = _fitted(picture, enlarge=False)
    legend = _wrapped([", ".join(f"{name} {count}" for name, count in counts.items()), NOTICE], base.width)
    sheet, pen = _sheet(base, len(legend))
    by_class, font = colours(classes), _font(12)
    x, y = base.width / picture.shape[1], base.height / picture.shape[0]
    for (left, top, right, bottom), label, text in drawn:
        colour = by_class.get(label, GREY)
        near, far = (left * x + 1, top * y + 1), (right * x - 2, bottom * y - 2)
        if far[0] <= near[0] or far[1] <= near[1]:
            continue
        pen.rectangle((near, far), outline=colour, width=3)
        wide = pen.textlength(text, font=font) + 8
        if wide < far[0] - near[0] and far[1] - near[1] > 20:
            pen.rectangle((near, (near[0] + wide, near[1] + 17)), fill=colour)
            pen.text((near[0] + 4, near[1] + 2), text, fill=_ink(colour), font=font)
    at = base.height + _MARGIN
    for line in legend:
        at = _write(pen, line, at)
    return _png(sheet)


def mosaic(
    picture: Pixels,
    patches: Pixels,
    weights: npt.NDArray[np.floating],
    counts: Mapping[str, int],
    classes: Sequence[str],
) -> bytes:
    """Lay a colour over each of very many tiles, which cover a picture evenly.

    Args:
        picture: ``uint8 [h, w, 3]``.
        patches: Their colours, ``uint8 [rows, columns, 3]``.
        weights: How much of each is colour, from 0 to 1, ``[rows, columns]``.
        counts: What stands below the picture, with numbers; a class has its colour beside it.
        classes: The classes, in order.

    Returns:
        The PNG file.
    """
    base = _fitted(picture, enlarge=True)
    rows = np.arange(base.height) * len(patches) // base.height
    columns = np.arange(base.width) * patches.shape[1] // base.width
    share = weights[rows][:, columns, None].astype(np.float32)
    mixed = (np.asarray(base) * (1 - share) + patches[rows][:, columns] * share).round().astype(np.uint8)
    others = ", ".join(f"{name} {count}" for name, count in counts.items() if name not in classes)
    lines = _wrapped([others, NOTICE], base.width)
    sheet, pen = _sheet(Image.fromarray(mixed), len(lines) + len(classes))
    at = base.height + _MARGIN
    for name, colour in colours(classes).items():
        pen.rectangle((_MARGIN, at + 3, _MARGIN + 14, at + 17), fill=colour)
        pen.text((_MARGIN + 22, at), f"{name} {counts[name]}", fill="black", font=_font())
        at += _LINE
    for line in lines:
        at = _write(pen, line, at)
    return _png(sheet)


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _ink(colour: str) -> str:
    """Black or white, whichever can be read better on a colour."""
    red, green, blue = rgb(colour)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else "white"


def _fitted(picture: Pixels, *, enlarge: bool) -> Image.Image:
    """A picture of a size to look at."""
    height, width = picture.shape[:2]
    step = max(1, max(height, width) // (2 * _LONGEST))
    if step > 1:  # a copy of all pixels could fill the memory
        picture = np.ascontiguousarray(picture[::step, ::step])
        height, width = picture.shape[:2]
    factor = min(_LONGEST / max(height, width), max(1.0, LEAST / min(height, width)) if enlarge else 1.0)
    base = Image.fromarray(picture)
    wanted = (max(1, round(width * factor)), max(1, round(height * factor)))
    return base if wanted == base.size else base.resize(wanted, Image.Resampling.BICUBIC)


def _wrapped(texts: Sequence[str], width: int) -> list[str]:
    """Texts broken into lines that fit a width in pixels."""
    font, room = _font(), width - 2 * _MARGIN
    characters = max(20, int(room / max(1.0, font.getlength("n"))))
    return [line for text in texts for line in textwrap.wrap(text, characters)]


def _sheet(picture: Image.Image, lines: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A picture with white room for lines below it."""
    sheet = Image.new("RGB", (picture.width, picture.height + lines * _LINE + 2 * _MARGIN), "white")
    sheet.paste(picture, (0, 0))
    return sheet, ImageDraw.Draw(sheet)


def _write(pen: ImageDraw.ImageDraw, line: str, at: int) -> int:
    pen.text((_MARGIN, at), line, fill="black", font=_font())
    return at + _LINE


def _font(size: int = _TEXT) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
