"""A damaged image gets no label; what is odd but undamaged is read; and no image costs more than the limits."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import colour_picture, encoded
from helpers_images import coded_data, wide_profile
from PIL import Image, ImageCms

from edge_all import image
from edge_all.errors import ImageError
from edge_all.image import jpeg, limits

SIZE = (96, 128)


def _field() -> Image.Image:
    """A picture with as much detail as a smear has."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(60, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(SIZE[::-1], Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-9, 10, (*SIZE, 3))).clip(0, 255).astype(np.uint8))


FIELD = _field()
PLAIN = encoded(FIELD, "JPEG", quality=90)
JPEGS = {
    "plain": PLAIN,
    "progressive": encoded(FIELD, "JPEG", quality=90, progressive=True),
    "grey": encoded(FIELD.convert("L"), "JPEG", quality=90),
    "cmyk": encoded(FIELD.convert("CMYK"), "JPEG", quality=90),
    "large": encoded(FIELD.resize((2 * 448 + 9, 2 * 448)), "JPEG", quality=90),
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_with_a_part_cut_out_is_refused(kind: str) -> None:
    data = JPEGS[kind]
    begin = data.index(b"\xff\xda") + 20 if kind == "progressive" else coded_data(data)
    for at in np.linspace(begin + 50, len(data) - 800, 40).astype(int):
        with pytest.raises(ImageError, match="damaged"):
            image.decode(data[:at] + data[at + 700 :], SIZE)


@pytest.mark.parametrize("kind", ["plain", "grey", "cmyk", "large"])
def test_a_jpeg_with_a_lost_block_is_refused(kind: str) -> None:
    data = JPEGS[kind]
    for at in np.linspace(coded_data(data) + 50, len(data) - 200, 60).astype(int):
        with pytest.raises(ImageError, match="damaged"):
            image.decode(data[:at] + bytes(64) + data[at + 64 :], SIZE)


def test_zeros_that_are_coded_data_are_no_damage() -> None:
    """Where a table's first code ends a block, an even area is zeros."""
    even = encoded(Image.new("RGB", (900, 640), (200, 180, 190)), "JPEG", optimize=True)
    assert np.ptp(image.decode(even, SIZE), axis=(0, 1)).max() == 0


ODD = {
    "bytes after the end": PLAIN + b"\r\nstray",
    "zeros after the end": PLAIN + bytes(4096),
    "zeros before the end": PLAIN[:-2] + bytes(200) + PLAIN[-2:],
    "bytes before the end": PLAIN[:-2] + b"\x12\x34\x56" + PLAIN[-2:],
    "no end": PLAIN[:-2],
    "fill bytes": PLAIN[:2] + b"\xff\xff\xff" + PLAIN[2:],
    "bytes between segments": PLAIN[:20] + b"\0\0" + PLAIN[20:],
    "a later JFIF": PLAIN[:11] + b"\3\7" + PLAIN[13:],
    "a wrong scan header": PLAIN[: coded_data(PLAIN) - 3] + b"\1\x3e\0" + PLAIN[coded_data(PLAIN) :],
    "an unknown Adobe transform": PLAIN[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07" + PLAIN[2:],
    "a broken profile": encoded(FIELD, "JPEG", quality=90, icc_profile=b"no profile" * 20),
}


@pytest.mark.parametrize("oddity", ODD)
def test_odd_jpegs_are_read(oddity: str) -> None:
    np.testing.assert_array_equal(image.decode(ODD[oddity], SIZE), image.decode(PLAIN, SIZE))


@pytest.mark.parametrize("divisor", [1, 2, 4, 8])
def test_smaller_pixels_are_those_of_pillow(divisor: int) -> None:
    for options in ({}, {"subsampling": 0}, {"progressive": True}):
        data = encoded(FIELD.resize((901, 643)), "JPEG", **options)
        with Image.open(io.BytesIO(data)) as opened:
            opened.draft(None, (901 // divisor, 643 // divisor))
            wanted = np.asarray(opened)
        np.testing.assert_array_equal(jpeg.decompress(data, jpeg.header(data), divisor), wanted)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
def test_a_file_that_ends_early_is_refused(form: str) -> None:
    data = encoded(FIELD, form)
    for share in (0.3, 0.6, 0.9):
        with pytest.raises(ImageError, match="damaged"):
            image.decode(data[: int(len(data) * share)], SIZE)


def test_a_png_with_wrong_pixels_is_refused() -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(FIELD))
    data = _png(SIZE, zlib.compress(rows, 0))
    assert (image.decode(data, SIZE) == np.asarray(FIELD)).all()
    for at in range(200, len(data) - 100, 999):
        with pytest.raises(ImageError, match=r"checksum of 'IDAT'"):
            image.decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], SIZE)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(size: tuple[int, int], pixels: bytes, *others: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", *size[::-1], 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(others) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def test_deep_grey_pnm_keeps_its_scale() -> None:
    grey = np.asarray(FIELD.convert("L"))
    wanted = np.repeat(grey[..., None], 3, axis=2).astype(int)
    for highest in (65_535, 4095, 255, 200):
        values = (grey.astype(np.uint32) * highest // 255).astype(">u2" if highest > 255 else np.uint8)
        data = b"P5 # made here\n128 96\n%d\n" % highest + values.tobytes()
        assert np.abs(image.decode(data, SIZE) - wanted).max() <= 2
    with pytest.raises(ImageError, match="nearly black"):
        image.decode(b"P5 128 96 65535\n" + (grey.astype(np.uint16) * 16).astype(">u2").tobytes(), SIZE)


def test_a_colour_profile_is_applied() -> None:
    wide = ImageCms.ImageCmsProfile(io.BytesIO(wide_profile()))
    changed = ImageCms.profileToProfile(FIELD, ImageCms.createProfile("sRGB"), wide)
    assert changed is not None
    changed.info.clear()
    wanted = np.asarray(FIELD).astype(int)
    assert np.abs(np.asarray(changed) - wanted).mean() > 1.5
    for form in ("PNG", "TIFF"):
        given = image.decode(encoded(changed, form, icc_profile=wide_profile()), SIZE)
        assert np.abs(given - wanted).mean() < 0.6
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    np.testing.assert_array_equal(image.decode(encoded(FIELD, "PNG", icc_profile=srgb), SIZE), wanted)


def _repeated_scan() -> bytes:
    data = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 300 + data[-2:]


ROW = zlib.compress(b"\0" * 9 * 32 * 32)
OVER: dict[str, tuple[bytes, str]] = {
    "scans": (_repeated_scan(), "megapixels times scans"),
    "segments": (PLAIN[:2] + b"\xff\xe1\0\2" * 5000 + PLAIN[2:], "limit of 4096 segments"),
    "comments": (PLAIN[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * 500 + PLAIN[2:], "32 MB beside the pixels"),
    "chunks": (_png((32, 32), ROW, *[_chunk(b"tEXt", b"a\0b")] * 5000), "limit of 4096 chunks"),
    "digits": (b"P3 800 800 255\n" + b"9 " * 800 * 800 * 3, "in digits is over the limit"),
    "blanks": (b"P6" + b" " * 100_000 + b"64 64 255\n" + bytes(12_288), "the header of a PNM"),
    "pixels": (_png((8000, 8001), b""), "over the limit of 64 megapixels"),
}


@pytest.mark.parametrize("name", OVER)
def test_what_costs_too_much_is_refused_by_the_limit(name: str) -> None:
    data, said = OVER[name]
    with pytest.raises(ImageError, match=said):
        image.decode(data, SIZE)


def test_a_large_picture_with_transparency_is_refused_by_its_memory() -> None:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 6, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", zlib.compress(bytes(100_000))) + _chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="over the limit of 512 MB"):
        image.decode(data, SIZE)


_PEAK = """
import resource, sys
from pathlib import Path
from edge_all import image
image.decode(Path(sys.argv[1]), (224, 224))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image.decode(Path(sys.argv[2]), (224, 224))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is told in kilobytes on Linux alone")
def test_transparency_takes_no_further_copies(tmp_path: Path) -> None:
    (tmp_path / "small.png").write_bytes(encoded(FIELD.convert("RGBA"), "PNG"))
    Image.new("RGBA", (4000, 3000), (200, 180, 190, 128)).save(tmp_path / "large.png")
    words: list[str | Path] = [sys.executable, "-c", _PEAK, tmp_path / "small.png", tmp_path / "large.png"]
    peak = int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    assert peak < 12_000_000 * 8 * 1.4


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    def refused(path: Path, said: str) -> None:
        with pytest.raises(ImageError, match=said):
            image.decode(path, SIZE)

    refused(tmp_path, "it is a folder")
    refused(tmp_path / ("n" * 300), "cannot be read")
    refused(Path("a\0b"), "cannot be read")
    with open(tmp_path / "sparse.tif", "wb") as file:
        file.truncate(6_000_000_000)
    refused(tmp_path / "sparse.tif", "6000 MB is over the limit of 256 MB")
    if sys.platform == "win32":
        return
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "it is a pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        refused(tmp_path / "s.png", "it is a socket")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    refused(tmp_path / "zero.png", "it is a device")


def test_a_file_that_grows_is_read_to_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(PLAIN)
    assert limits.read(path) == PLAIN


def test_formats_are_told_by_their_first_bytes() -> None:
    options: dict[str, Any] = {"save_all": True, "append_images": [colour_picture(1)]}
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        with pytest.raises(ImageError, match="holds 2 frames"):
            image.decode(encoded(colour_picture(0), form, **options), SIZE)
