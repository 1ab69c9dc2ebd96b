"""From encoded bytes to the pixels a graph takes: the one decode-and-resize path of training and runtime.

Pillow, OpenCV and ONNX Resize differ by enough to change labels, so nothing else here decodes or resizes an image.
A JPEG is decoded by libjpeg-turbo through simplejpeg (`jpeg`), a TIFF with care (`tiff`), any other file by Pillow
after its bytes are checked (`checks`). Pillow resizes. What an image may cost is bounded before it is decoded
(`limits`).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from edge_all.errors import ImageError, in_one_line
from edge_all.image import checks, colour, jpeg, limits, pnm, tiff, tiff_pages
from edge_all.image.limits import MAX_PIXELS, MIN_SIDE

__all__ = ["FORMATS", "MAX_PIXELS", "MIN_SIDE", "decode", "decode_into", "decode_whole", "fit", "read_bytes"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
"""Pillow's names of the formats that are read."""

_OVERSAMPLING = 2
"""A large JPEG is decoded at a half, a quarter or an eighth of its size, but not below this multiple of the graph's
input: libjpeg leaves out what resizing would average away (https://pillow.readthedocs.io, ``Image.draft``)."""

_NO_MEMORY = "takes more memory than there is free; crop or scale it first"

# Pillow warns of what it leaves out of the metadata; what decides about pixels is checked here.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

_ORIENTATION, _PROFILE = 0x0112, "icc_profile"

read_bytes = limits.read
"""The bytes of an image file, within the limits."""


def decode(
    source: Path | bytes, size: tuple[int, int], out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image upright, in RGB, resized to a graph's input.

    Grey, palette and CMYK images become RGB; transparency is laid over white; 16 bits are scaled to 8; an EXIF
    orientation and a colour profile are applied. Resizing is Pillow's antialiased bilinear and does not keep the aspect
    ratio.

    Args:
        source: An image file, or its encoded bytes.
        size: Height and width of the result, in pixels.
        out: Array for the result, ``uint8 [H, W, 3]``, C-contiguous; after an error its content is undefined.

    Returns:
        ``uint8 [H, W, 3]``: `out`, if it was given.

    Raises:
        ImageError: Unreadable, not an image, damaged, animated, or outside the `limits`.
    """
    if out is None:
        out = np.empty((*size, 3), np.uint8)
    decode_into(source, out)
    return out


def decode_into(source: Path | bytes, out: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Decode an image as `decode` does, resized to the array that takes it.

    Args:
        source: An image file, or its encoded bytes.
        out: ``uint8 [H, W, 3]``, C-contiguous; after an error its content is undefined.

    Returns:
        Width and height of the image in the file, in pixels.

    Raises:
        ImageError: As `decode`.
    """
    data = source if isinstance(source, bytes) else limits.read(source)
    height, width = size = out.shape[:2]
    pixels = _read(data, _OVERSAMPLING * max(size), out)
    if pixels is out:
        return width, height
    if not isinstance(pixels, Image.Image) and pixels.shape[:2] == size:
        out[...] = pixels
        return width, height
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    fit(picture, out)
    if data.startswith(_JPEG):  # which may have been decoded smaller
        return jpeg.plain_size(data) or jpeg.header(data).size
    return picture.size


def fit(picture: Image.Image, out: npt.NDArray[np.uint8]) -> None:
    """Resize a picture in RGB to the array that takes it, ``uint8 [H, W, 3]``."""
    height, width = out.shape[:2]
    out[...] = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def decode_whole(data: bytes, least: int | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image upright, in RGB, at its own size.

    Args:
        data: The image file's bytes.
        least: A large JPEG may be decoded smaller, by 2, 4 or 8, but no side below this many pixels; None forbids it.

    Returns:
        ``uint8 [h, w, 3]``, not to be written to.

    Raises:
        ImageError: As `decode`.
    """
    picture = _read(data, least)
    if not isinstance(picture, Image.Image):
        return picture
    width, height = picture.size
    limits.check_memory(width * height, _MEMORY["RGB"] + 3, len(data))
    try:
        pixels = np.empty((height, width, 3), np.uint8)
    except MemoryError:
        raise ImageError(_NO_MEMORY) from None
    rows = max(1, colour.BAND_PIXELS // width)
    for top in range(0, height, rows):  # all at once, Pillow would make two copies
        pixels[top : top + rows] = np.asarray(picture.crop((0, top, width, min(height, top + rows))))
    return pixels


def _read(
    data: bytes, least: int | None, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8] | Image.Image:
    """Decode an image upright and in RGB, without resizing.

    Args:
        data: The image file's bytes.
        least: A large JPEG may be decoded smaller, by 2, 4 or 8, but no side below this many pixels; None forbids it.
        out: Array that the pixels are put into where they have its size.

    Returns:
        ``uint8 [h, w, 3]``, or a picture in RGB.
    """
    size = jpeg.plain_size(data)
    if size is not None and not (least and min(size) >= 2 * least):
        limits.check_size(*size)
        fits = out is not None and size == (out.shape[1], out.shape[0])
        if (pixels := jpeg.read_plain(data, out if fits else None)) is not None:
            return pixels
    form = _format(data)
    try:
        if form == "JPEG":
            return _read_jpeg(data, least)
        return tiff.read(data) if form == "TIFF" else _read_by_pillow(form, data)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(_NO_MEMORY) from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = in_one_line(error)
        raise ImageError(f"damaged image ({reason}); save or copy it again") from None


def _format(data: bytes) -> str:
    """Pillow's name of a file's format, by its first bytes."""
    if not data:
        raise ImageError("the file is empty; an image is wanted")
    if data[:4] in tiff_pages.SIGNATURES:
        return "TIFF"
    for first, form in _SIGNATURES.items():
        if data.startswith(first):
            return form
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in b"123456" and len(data) > 2:
        return "PPM"
    if data[:2] in (b"Pf", b"PF"):
        raise ImageError("floating-point pixels; wanted 8 or 16 bits a channel")
    raise ImageError(f"not an image that can be read; wanted one of {', '.join(FORMATS)}")


_JPEG = b"\xff\xd8\xff"

_SIGNATURES = {
    _JPEG: "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}


def _read_jpeg(data: bytes, least: int | None) -> npt.NDArray[np.uint8] | Image.Image:
    head = jpeg.header(data)
    limits.check_size(*head.size)
    sides = min(head.size) // least if least else 1
    divisor = next(divisor for divisor in (8, 4, 2, 1) if sides >= divisor or divisor == 1)
    pixels = None if jpeg.is_unusual(data) else jpeg.decompress(data, head, divisor)
    with Image.open(io.BytesIO(data), formats=("JPEG", "MPO")) as image:
        orientation = image.getexif().get(_ORIENTATION, 1)
        if pixels is not None and head.channels < 4:
            if orientation == 1 and _PROFILE not in image.info:
                return pixels
            picture = Image.fromarray(pixels)
            picture.info[_PROFILE] = image.info.get(_PROFILE)
            return colour.turned(colour.to_rgb(picture), orientation)
        # Pillow knows how four channels are stored, and takes brightness and colour in any proportion.
        image.draft(None, (image.width // divisor, image.height // divisor))
        image.load()
        return colour.turned(colour.to_rgb(image), orientation)


def _read_by_pillow(form: str, data: bytes) -> Image.Image:
    checks.check(form, data)
    if form == "PPM" and (values := pnm.read(data)) is not None:
        return colour.to_rgb(Image.fromarray(values))
    try:
        image = Image.open(io.BytesIO(data), formats=(form,))
    except UnidentifiedImageError:
        raise ImageError(f"damaged image (its header is no {form} header); save or copy it again") from None
    with image:
        limits.check_size(*image.size)
        if form == "WEBP":
            checks.check_frames(getattr(image, "n_frames", 1))
        pixels = image.width * image.height
        limits.check_memory(pixels, _MEMORY.get(image.mode, 8), len(data))
        image.load()
        if (orientation := image.getexif().get(_ORIENTATION, 1)) != 1:
            limits.check_memory(pixels, 8, len(data))
        return colour.turned(colour.to_rgb(image, deep=image.mode.startswith("I;16")), orientation)


_MEMORY = {"1": 5, "L": 5, "P": 5, "RGB": 4, "I;16": 6}
"""Bytes that Pillow's pixels take, with those of the RGB picture, by mode; 8 for others."""
