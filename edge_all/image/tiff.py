"""TIFF: what Pillow is known to read right goes to Pillow, other kinds to tifffile, and the rest is refused by name.

tests/test_tiff.py holds the table of variants: bits, planes, colours, compression, byte order, strips and tiles.
"""

from __future__ import annotations

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from edge_all.errors import ImageError, install_hint
from edge_all.image import checks, colour, jpeg, limits
from edge_all.image.tiff_pages import Page, pages

_NONE, _JPEG, _DEFLATE = 1, 7, (8, 32946)
_COMPRESSIONS = {_NONE, 5, _JPEG, *_DEFLATE, 32773, 50000}
_NAMES = {
    2: "CCITT fax", 3: "CCITT fax", 4: "CCITT fax", 6: "old-style JPEG", 34712: "JPEG 2000", 33003: "JPEG 2000",
    33005: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 34934: "JPEG XR", 22610: "JPEG XR", 50001: "WebP",
    50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_MAX_PIECES = 200_000
_INFLATED = 1 << 20


def read(data: bytes) -> Image.Image:
    """Decode a TIFF file upright and in RGB. Thumbnails and masks beside the image are left out.

    Raises:
        ImageError: It is damaged, holds several images, is over a limit, or of a kind that is not read.
    """
    every = pages(data)
    whole = [page for page in every if page.is_whole] or every[:1]
    checks.check_frames(len(whole))
    (page,) = whole
    _check_kind(page)
    _check_pieces(page, data)
    obstacle = _not_for_pillow(page, data)
    return _by_tifffile(page, data, obstacle) if obstacle else _by_pillow(page, data)


def _check_kind(page: Page) -> None:
    """Refuse what neither library reads, or not within the limits."""
    limits.check_size(*page.size)
    bits, kind = page.bits, page.photometric
    if page.compression not in _COMPRESSIONS:
        name = _NAMES.get(page.compression, f"method {page.compression}")
        raise _kind_error(f"compressed by {name}")
    if any(value not in (1, 4) for value in page.fields.get(339, ())):
        raise _kind_error("floating-point or signed values")
    if len(set(bits)) > 1 or not (bits[0] in (8, 10, 12, 14, 16) or (bits[0] in (1, 2, 4) and page.samples == 1)):
        raise _kind_error(f"{'/'.join(map(str, bits))} bits a channel")
    if kind not in range(7) or kind == 4 or (kind == _YCBCR and page.compression != _JPEG):
        raise _kind_error("YCbCr without JPEG" if kind == _YCBCR else f"colours of kind {kind}")
    least = {_RGB: 3, _CMYK: 4, _YCBCR: 3}.get(kind, 1)
    if not least <= page.samples <= 4 + (least > 1):
        raise _kind_error(f"{page.samples} channels")


def _check_pieces(page: Page, data: bytes) -> None:
    """Check that all tiles or strips are there, of a sensible size, and undamaged as far as their form tells."""
    (width, height), (across, down) = page.size, page.piece_size
    if not across or not down:
        raise ImageError("damaged image (tiles without a size); save or copy it again")
    if across * down > max(2 * width * height, 4_194_304):
        raise ImageError(f"tiles of {across}x{down} pixels for {width}x{height} are over the limit; save it again")
    count = -(-width // across) * -(-height // down) * (page.samples if page.is_separate else 1)
    limits.check_parts(count, "tiles or strips", _MAX_PIECES)
    limits.check_memory(width * height, 4 + 3 * (page.bits[0] > 8) * page.samples, 2 * len(data) + page.piece_bytes)
    lengths = page.lengths or (page.piece_bytes,) * count
    if len(page.offsets) < count or len(lengths) < count:
        raise ImageError("damaged image (tiles or strips are missing); save or copy it again")
    left = height % down if 322 not in page.fields else 0
    for index in range(count):
        whole = page.piece_bytes
        if left and index % -(-height // down) == height // down:
            whole = whole // down * left
        length = whole if page.compression == _NONE else lengths[index]
        piece = memoryview(data)[page.offsets[index] : page.offsets[index] + length]
        if len(piece) < length or not length:
            raise ImageError("damaged image (the file ends before its pixels do); save or copy it again")
        if page.compression in _DEFLATE:
            _check_deflate(piece, whole)
        elif page.compression == _JPEG:
            _check_jpeg(page, bytes(piece))


def _check_deflate(piece: memoryview, size: int) -> None:
    """Check a zlib stream's form and its checksum."""
    stream, given, rest = zlib.decompressobj(), 0, bytes(piece)
    try:
        while not stream.eof and given <= size:
            part = stream.decompress(rest, _INFLATED)
            if not part and not stream.eof:
                break
            given += len(part)
            rest = stream.unconsumed_tail
    except zlib.error as error:
        raise ImageError(f"damaged image ({error}); save or copy it again") from None
    if given < size:
        raise ImageError("damaged image (compressed pixels are missing); save or copy it again")


def _check_jpeg(page: Page, piece: bytes) -> None:
    tables = bytes(page.fields.get(347, ()))
    whole = tables[:-2] + piece[2:] if tables else piece
    if not jpeg.is_unusual(whole):
        jpeg.decompress(whole, jpeg.header(whole))


def _not_for_pillow(page: Page, data: bytes) -> str:
    """Why Pillow is not known to read it right; empty where it is."""
    if data[:4] == b"MM\0+":
        return "a big-endian BigTIFF"
    if page.bits[0] not in (1, 2, 4, 8, 16):
        return f"{page.bits[0]} bits a channel"
    if page.bits[0] == 16 and page.is_separate:
        return "16 bits in separate planes"
    if page.bits[0] == 16 and _range(page) != 0xFFFF:
        return f"{_range(page).bit_length()} bits in 16"
    if page.bits[0] == 16 and page.photometric == _WHITE_IS_ZERO and page.samples > 1:
        return "16 bits, white is zero, with transparency"
    return ""


def _range(page: Page) -> int:
    """The largest value that a channel may have: as the file tells (SMaxSampleValue, MaxSampleValue), else by its bits.

    Some programs put the largest value that there is, so the next power of two is taken.
    """
    told = page.value(341, 0) or page.value(281, 0)
    bits = min(page.bits[0], told.bit_length()) if told > 0xFF else page.bits[0]
    return (1 << bits) - 1


def _by_pillow(page: Page, data: bytes) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
    except UnidentifiedImageError:
        kind = f"{page.bits[0]} bits, {page.samples} channels, colours of kind {page.photometric}"
        return _by_tifffile(page, data, kind)
    with image:
        image.seek(page.number)
        image.load()  # turns it upright too
        deep = page.bits[0] > 8
        if deep and page.photometric == _WHITE_IS_ZERO:
            return colour.to_rgb(ImageOps.invert(colour.eight_bits(image)), deep=deep)
        return colour.to_rgb(image, deep=deep)


def _by_tifffile(page: Page, data: bytes, obstacle: str) -> Image.Image:
    if page.compression == _JPEG or page.photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK):
        raise _kind_error(obstacle)
    try:
        import tifffile
    except ImportError:
        raise ImageError(f"a TIFF of {obstacle}, which takes an extra: {install_hint('tiff')}") from None
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        stored = file.pages[page.number]
        assert isinstance(stored, tifffile.TiffPage)
        values = np.asarray(stored.asarray())
        profile = stored.tags.get(34675)
    values = np.moveaxis(values, 0, 2) if page.is_separate else values
    values = values[..., np.newaxis] if values.ndim == 2 else values
    colour.check_range(values[..., : page.samples - len(page.fields.get(338, ()))], _range(page))
    image = _picture(colour.scaled(values, _range(page)), page)
    if profile is not None:
        image.info["icc_profile"] = bytes(profile.value)
    return colour.turned(colour.to_rgb(image), page.value(274, 1))


def _picture(values: npt.NDArray[np.uint8], page: Page) -> Image.Image:
    """A picture of values ``uint8 [H, W, channels]``, without those that are neither colour nor transparency."""
    colours = {_RGB: 3, _CMYK: 4}.get(page.photometric, 1)
    clear = colours in (1, 3) and page.value(338, 0) in (1, 2) and values.shape[2] > colours
    values = values[..., : colours + clear]
    if page.photometric == _WHITE_IS_ZERO:
        values[..., 0] = 255 - values[..., 0]
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours]
    if clear:
        mode = {"L": "LA", "RGB": "RGBA"}[mode]
    flat = values[..., 0] if values.shape[2] == 1 else values
    return Image.frombytes(mode, flat.shape[1::-1], np.ascontiguousarray(flat).tobytes())


def _kind_error(kind: str) -> ImageError:
    return ImageError(f"a TIFF of a kind that is not read ({kind}); save it with 8 bits a channel, in RGB")
