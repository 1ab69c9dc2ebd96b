"""Decoding: what is answered, what is refused, and that equal pixels give equal inputs."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from helpers_bundle import colour_picture, encoded
from PIL import Image

from edge_all import image
from edge_all.errors import ImageError
from edge_all.image import jpeg

SIZE = (48, 64)


def png_claiming(width: int, height: int) -> bytes:
    """A small, valid PNG stream whose header claims `width` x `height` one-bit pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_same_pixels_same_input(form: str) -> None:
    picture = colour_picture(0)
    np.testing.assert_array_equal(image.decode(encoded(picture, form), SIZE), np.asarray(picture))


def test_exif_orientation_is_applied() -> None:
    picture = colour_picture(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(picture.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    np.testing.assert_array_equal(image.decode(turned, SIZE), np.asarray(picture))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1"])
def test_other_modes_become_rgb(mode: str) -> None:
    source = colour_picture(0).convert(mode)
    form = "TIFF" if mode == "CMYK" else "PNG"
    given = image.decode(encoded(source, form), SIZE)
    assert given.shape == (*SIZE, 3) and given.dtype == np.uint8


def test_cmyk_jpeg_is_answered() -> None:
    assert image.decode(encoded(colour_picture(0).convert("CMYK"), "JPEG"), SIZE).shape == (*SIZE, 3)


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (64, 48), (10, 20, 30, 0))
    clear.putpixel((0, 0), (10, 20, 30, 255))
    given = image.decode(encoded(clear, "PNG"), SIZE)
    assert given[0, 0].tolist() == [10, 20, 30] and (given.reshape(-1, 3)[1:] == 255).all()


def test_sixteen_bit_grey_keeps_its_scale() -> None:
    grey = np.asarray(colour_picture(0).convert("L"))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    for form in ("TIFF", "PNG"):
        given = image.decode(encoded(wide, form), SIZE)
        np.testing.assert_array_equal(given, np.repeat(grey[..., None], 3, axis=2))


def test_multi_strip_and_compressed_tiff() -> None:
    picture = colour_picture(2)
    for compression in ("tiff_lzw", "tiff_deflate"):
        given = image.decode(encoded(picture, "TIFF", compression=compression), SIZE)
        np.testing.assert_array_equal(given, np.asarray(picture))


@pytest.mark.parametrize("turned", [1, 6])  # EXIF: upright, and a quarter turn
def test_a_large_jpeg_is_decoded_small_and_looks_the_same(turned: int) -> None:
    rng = np.random.default_rng(0)
    blobs = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    scene = blobs.resize((2592, 1944), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = turned
    file = io.BytesIO()
    scene.save(file, "JPEG", quality=95, exif=exif)
    whole, drafted = (
        read if isinstance(read, Image.Image) else Image.fromarray(read)
        for read in (image._read(file.getvalue(), least) for least in (None, 448))
    )
    assert min(drafted.size) >= 448 and 4 * drafted.size[0] == whole.size[0]
    wanted = np.asarray(whole.resize((224, 224), Image.Resampling.BILINEAR)).astype(int)
    given = image.decode(file.getvalue(), (224, 224)).astype(int)
    assert np.abs(given - wanted).max() <= 6 and np.abs(given - wanted).mean() < 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 20}, {"keep_rgb": True}]
)
def test_a_jpeg_has_pillows_pixels(mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    real = simplejpeg.decode_jpeg

    def decode(data: bytes, **given: object) -> object:
        asked.append(data)
        return real(data, **given)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (57, 83, 3), dtype=np.uint8)).resize((331, 227))
    data = encoded(noise.convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(data)) as opened:
        wanted = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(image.decode(data, wanted.shape[:2]), wanted)
    taken = mode != "CMYK" or options.get("subsampling") != 1  # simplejpeg does not take these proportions
    assert len(asked) == taken, "decoded strictly, once"


def test_which_jpegs_are_plain() -> None:
    """Whatever may have to be turned, converted or refused is Pillow's."""
    scene = colour_picture(0, size=(57, 83))
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encoded(scene, "JPEG", comment=b"stained")
    assert jpeg.plain_size(plain) == (83, 57)
    others: list[dict[str, Any]] = [
        {"exif": exif},
        {"icc_profile": bytes(200)},
        {"keep_rgb": True},
        {"progressive": True},
    ]
    assert not any(jpeg.plain_size(encoded(scene, "JPEG", **options)) for options in others)
    assert not any(jpeg.plain_size(encoded(scene.convert(mode), "JPEG")) for mode in ("L", "CMYK"))
    assert jpeg.plain_size(encoded(scene, "PNG")) is None
    scan = plain.index(b"\xff\xda")
    for end in range(scan + 1):
        assert jpeg.plain_size(plain[:end]) is None
    rng = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(plain[: scan + 20])
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        jpeg.plain_size(bytes(damaged))  # never an error of its own


def test_a_plain_jpeg_needs_no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(colour_picture(0), "JPEG")
    wanted = image.decode(data, SIZE)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("opened by Pillow"))
    np.testing.assert_array_equal(image.decode(data, SIZE), wanted)


def test_pixels_go_where_they_are_wanted() -> None:
    out = np.empty((*SIZE, 3), np.uint8)
    for form, size in (("JPEG", None), ("JPEG", (83, 57)), ("JPEG", (700, 500)), ("PNG", None), ("PNG", (83, 57))):
        picture = colour_picture(0).resize(size) if size else colour_picture(0)
        data = encoded(picture, form)
        out[...] = 7
        assert image.decode(data, SIZE, out) is out
        np.testing.assert_array_equal(out, image.decode(data, SIZE))
    with pytest.raises(ImageError, match="damaged"):
        image.decode(encoded(colour_picture(0), "JPEG")[:600], SIZE, out)
    with pytest.raises(ImageError, match="too small"):
        image.decode(encoded(colour_picture(0).resize((16, 16)), "JPEG"), (16, 16), np.empty((16, 16, 3), np.uint8))


def test_resizes_to_the_input() -> None:
    assert image.decode(encoded(colour_picture(0, size=(500, 700)), "PNG"), SIZE).shape == (*SIZE, 3)


def _animated() -> bytes:
    buffer = io.BytesIO()
    colour_picture(0).save(buffer, "GIF", save_all=True, append_images=[colour_picture(1)])
    return buffer.getvalue()


def _float_tiff() -> bytes:
    return encoded(Image.fromarray(np.ones(SIZE, np.float32)), "TIFF")


def tiff48(pixels: np.ndarray) -> bytes:
    """A little-endian RGB TIFF with 16 bits a channel, as some microscope cameras write it; Pillow only reads them."""
    height, width = pixels.shape[:2]
    longs = {256: width, 257: height, 259: 1, 262: 2, 273: 140, 277: 3, 278: height, 279: pixels.nbytes, 284: 1}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in longs.items()]
    entries.insert(2, struct.pack("<HHII", 258, 3, 3, 134))
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return head + struct.pack("<3H", 16, 16, 16) + pixels.astype("<u2").tobytes()


def test_sixteen_bit_colour_tiff_keeps_its_scale() -> None:
    pixels = np.asarray(colour_picture(1))
    np.testing.assert_array_equal(image.decode(tiff48(pixels.astype(np.uint16) * 257), SIZE), pixels)


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"this is no image\n", "not an image"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    "truncated jpeg": (encoded(colour_picture(0), "JPEG")[:600], "damaged"),
    "truncated png": (encoded(colour_picture(0), "PNG")[:600], "damaged"),
    "tiff of zeros": (b"II*\0" + b"\0" * 64, "damaged"),
    "bmp header only": (b"BM" + b"\xff" * 60, ""),
    "bomb": (png_claiming(20_000, 20_000), "megapixels"),
    "one pixel": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too small"),
    "animated": (_animated(), "2 frames"),
    "floating point": (_float_tiff(), "floating-point"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_one_line(name: str) -> None:
    data, said = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        image.decode(data, SIZE)
    assert said in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) > 8


def test_every_cut_of_a_file_is_refused_or_read() -> None:
    """No cut of a file may raise anything but ImageError."""
    for form in ("JPEG", "PNG", "TIFF", "GIF", "BMP", "WEBP"):
        data = encoded(colour_picture(0), form)
        for length in range(0, len(data), max(1, len(data) // 40)):
            try:
                image.decode(data[:length], SIZE)
            except ImageError:
                continue


def test_missing_unreadable_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(ImageError, match="cannot be read"):
            image.decode(path, SIZE)
