"""From encoded bytes to the pixels a graph takes: the one decode-and-resize path of training and runtime.

Pillow, OpenCV and ONNX Resize differ by enough to change labels, so nothing else here decodes or resizes an image.
Pillow opens, checks and resizes. A JPEG that is upright and in RGB is decompressed by simplejpeg, which uses the same
libjpeg-turbo and so gives the same pixels, in half the time. A plain JPEG is recognized by its markers, and then Pillow
is not used at all.
"""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_all.errors import ImageError

MAX_PIXELS = 64_000_000
"""Largest image that is decoded; a larger one is refused by its header, before its pixels are decompressed."""

MIN_SIDE = 32
"""Shortest side, in pixels, that is accepted: a smaller image shows no cell."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
"""Pillow formats that are opened."""

_OVERSAMPLING = 2
"""A large JPEG is decoded at a half, a quarter or an eighth of its size, but not below this multiple of the graph's
input: libjpeg leaves out what resizing would average away (https://pillow.readthedocs.io, ``Image.draft``)."""

_ORIENTATION = 0x0112
"""The EXIF tag; most images lack it or have 1, upright, and need not be turned."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF, to name it in an error: Pillow does not read every kind."""


def decode(
    source: Path | bytes, size: tuple[int, int], out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image upright, in RGB, resized to a graph's input.

    Grey, palette and CMYK images become RGB; transparency is laid over white; 16-bit grey is scaled to 8 bits; an EXIF
    orientation is applied. Resizing is Pillow's antialiased bilinear and does not keep the aspect ratio.

    Args:
        source: An image file, or its encoded bytes.
        size: Height and width of the result, in pixels.
        out: Array for the result, ``uint8 [H, W, 3]``, C-contiguous; after an error its content is undefined.

    Returns:
        ``uint8 [H, W, 3]``: `out`, if it was given.

    Raises:
        ImageError: Unreadable, not an image, damaged, animated, under ``MIN_SIDE`` or over ``MAX_PIXELS``.
    """
    height, width = size
    data = source if isinstance(source, bytes) else _read_bytes(source)
    pixels = _read(data, _OVERSAMPLING * max(size), out)
    if pixels.shape[:2] != (height, width):
        pixels = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    if out is None or pixels is out:
        return pixels
    out[...] = pixels
    return out


def _read(data: bytes, draft: int | None, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image upright and in RGB, without resizing.

    Args:
        data: The image file's bytes.
        draft: A large JPEG may be decoded smaller, by 2, 4 or 8, but no side below this many pixels; None forbids it.
        out: Array that the pixels are put into where they have its size.

    Returns:
        ``uint8 [h, w, 3]``.
    """
    if not data:
        raise ImageError("the file is empty; an image is wanted")
    if (pixels := _read_plain(data, draft, out)) is not None:
        return pixels
    try:
        return _read_by_pillow(data, draft)
    except ImageError:
        raise
    except UnidentifiedImageError:
        if data[:4] in _TIFF:
            raise ImageError("a TIFF of a kind that cannot be read; save it with 8 bits a channel, in RGB") from None
        raise ImageError(f"not an image that can be read; wanted one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"over the limit of {MAX_PIXELS / 1e6:.0f} megapixels; crop or scale it first") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"damaged image ({reason}); save or copy it again") from None


def _read_plain(data: bytes, draft: int | None, out: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8] | None:
    """The pixels of a plain JPEG; None for any other file, a damaged one, and one that is to be decoded smaller."""
    size = _plain_jpeg(data)
    if size is None or (draft and min(size) >= 2 * draft):
        return None
    _check_size(*size)
    fits = out is not None and size == (out.shape[1], out.shape[0])
    return _decompress(data, out if fits else None)


def _read_by_pillow(data: bytes, draft: int | None) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check(image)
        full_size = image.size
        if draft and image.format == "JPEG":
            image.draft(None, (draft, draft))
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        whole = image.format == "JPEG" and image.mode == "RGB" and image.size == full_size
        if whole and upright and (pixels := _decompress(data)) is not None:
            return pixels
        image.load()
        return np.asarray(_rgb(image if upright else ImageOps.exif_transpose(image)))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read: {error.strerror or error}") from None


def _decompress(data: bytes, out: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[np.uint8] | None:
    """A JPEG's pixels in RGB; None if it is damaged, so that Pillow says what is wrong or reads what it can."""
    try:
        pixels = simplejpeg.decode_jpeg(data, buffer=out)
    except ValueError:
        return None
    return np.asarray(pixels) if out is None else out


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG that only needs to be decompressed; None for any other file.

    It has three channels of 8 bits in a JFIF file without EXIF, colour profile or further frames (ITU T.81, annex B).
    """
    size, at = None, 2 + _JFIF_BYTES
    if data[:4] != b"\xff\xd8\xff\xe0" or data[4:11] != b"\0\x10JFIF\0":
        return None
    while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) in _PLAIN:
        if marker == _SCAN:
            return size
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack_from(">BHHB", data[at + 4 : at + 10].ljust(6, b"\0"))
            if (bits, channels) != (8, 3):
                return None
            size = width, height
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    return None


_JFIF_BYTES = 18
_FRAMES, _SCAN = (b"\xc0", b"\xc1", b"\xc2"), b"\xda"
_PLAIN = frozenset({*_FRAMES, _SCAN, b"\xc4", b"\xdb", b"\xdd", b"\xfe"})
"""Frames; scan; tables for Huffman and quantization, restart interval, comment."""


def _check(image: Image.Image) -> None:
    _check_size(*image.size)
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a phone's JPEG and its preview
    if frames > 1:
        raise ImageError(f"holds {frames} frames; one image is wanted: save the frame to be classified as a file")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        megapixels = width * height / 1e6
        raise ImageError(
            f"{width}x{height} pixels ({megapixels:.0f} megapixels) is over the limit of "
            f"{MAX_PIXELS / 1e6:.0f} megapixels; crop or scale it first"
        )
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width}x{height} pixels is too small; wanted at least {MIN_SIDE}x{MIN_SIDE}")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint32) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ImageError(f"{'32-bit integer' if image.mode == 'I' else 'floating-point'} pixels; wanted 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
