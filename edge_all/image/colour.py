"""Whatever a picture's pixels are, to 8-bit RGB, with as few copies as there can be: a picture may fill the memory."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_all.errors import ImageError

BAND_PIXELS = 2_000_000
"""Pixels that are converted at a time."""

_DARK = 64
"""A bright-field image has brighter pixels than a quarter of its range."""


def to_rgb(image: Image.Image, *, deep: bool = False) -> Image.Image:
    """Convert a picture to RGB.

    Grey, palette and CMYK become RGB; transparency is laid over white; 16 bits are scaled to 8; an embedded colour
    profile other than sRGB is applied.

    Args:
        image: The picture, loaded.
        deep: Whether its file has more than 8 bits a channel.

    Raises:
        ImageError: Its pixels are floating-point or 32-bit integers, all transparent, or so dark that the file's
            range must be wrong.
    """
    if image.mode in ("I", "F") and not deep:
        kind = "32-bit integer" if image.mode == "I" else "floating-point"
        raise ImageError(f"{kind} pixels; wanted 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        image, deep = eight_bits(image), True
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = _over_white(image)
    if deep:
        check_range(np.asarray(image.getextrema()))
    return _to_srgb(image)


def eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits."""
    return _by_bands(image, "L", _high_byte)


def check_range(extrema: npt.NDArray[np.generic], highest: int = 255) -> None:
    """Refuse pixels of more than 8 bits that use only a small part of their range.

    Args:
        extrema: Smallest and largest value, or these of each channel.
        highest: The range's end.

    Raises:
        ImageError: They look like 12 or 14 bits in 16.
    """
    top = int(extrema.max())
    if top < highest * _DARK / 256:
        raise ImageError(
            f"nearly black: its brightest value is {top / highest:.0%} of the range, as where 12 or 14 bits are stored "
            "in 16 and the file does not say so; save it with 8 bits a channel"
        )


def scaled(values: npt.NDArray[np.unsignedinteger], highest: int) -> npt.NDArray[np.uint8]:
    """Scale whole numbers to 8 bits, a row at a time: there may be no room for a second copy.

    Args:
        values: ``[H, W, ...]``.
        highest: What becomes 255, as does a larger value.
    """
    out = np.empty(values.shape, np.uint8)
    for row, into in zip(values, out, strict=True):
        into[...] = np.minimum(row.astype(np.uint32), highest) * 255 // highest
    return out


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture upright.

    Args:
        image: The picture.
        orientation: As EXIF and TIFF number them, 1 to 8.
    """
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _by_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a picture some rows at a time, so that copies of other types stay small."""
    width, height = image.size
    out, rows = Image.new(mode, image.size), max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        box = (0, top, width, min(height, top + rows))
        out.paste(convert(image.crop(box)), box)
    out.info = image.info
    return out


def _high_byte(band: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(band).astype(np.uint32) // 257).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    seen = False

    def convert(band: Image.Image) -> Image.Image:
        nonlocal seen
        rgba = band.convert("RGBA")
        seen = seen or rgba.getchannel("A").getextrema() != (0, 0)
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")

    rgb = _by_bands(image, "RGB", convert)
    if not seen:
        raise ImageError("every pixel is transparent, so there is no picture; save it without transparency")
    rgb.info = {key: value for key, value in image.info.items() if key != "transparency"}
    return rgb


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply the embedded colour profile; one that is damaged or does not fit the pixels is left out, as browsers do."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image if image.mode == "RGB" else image.convert("RGB")
    from PIL import ImageCms

    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" not in ImageCms.getProfileDescription(given).casefold():
            return _by_bands(image, "RGB", _transformer(given, image.mode))
    except (ImageCms.PyCMSError, OSError, ValueError):
        pass
    return image if image.mode == "RGB" else image.convert("RGB")


def _transformer(given: object, mode: str) -> Callable[[Image.Image], Image.Image]:
    from PIL import ImageCms

    transform = ImageCms.buildTransform(given, ImageCms.createProfile("sRGB"), mode, "RGB")  # type: ignore[arg-type]

    def convert(band: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(band, transform)
        assert converted is not None
        return converted

    return convert
