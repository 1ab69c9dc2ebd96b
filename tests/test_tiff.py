"""TIFF: each variant gives the pixels of the same picture as PNG, or is refused with the true reason."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from helpers_bundle import encoded
from PIL import Image

from edge_all import image
from edge_all.errors import ImageError

tifffile = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

SIZE = (80, 96)
RGB = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        SIZE[::-1], Image.Resampling.BICUBIC
    )
)
GREY = np.asarray(Image.fromarray(RGB).convert("L"))
CMYK = np.asarray(Image.fromarray(RGB).convert("CMYK"))
OPAQUE = np.dstack([RGB, np.full(SIZE, 255, np.uint8)])
COLOURS = {
    "rgb": (RGB, "rgb"),
    "rgba": (OPAQUE, "rgb"),
    "cmyk": (CMYK, "separated"),
    "grey": (GREY, "minisblack"),
    "white is zero": (255 - GREY, "miniswhite"),
}


def png_pixels(colours: str) -> np.ndarray:
    """What the picture gives as PNG, or, for CMYK, which PNG has not, by Pillow."""
    shown = {"cmyk": CMYK, "grey": GREY, "white is zero": GREY}.get(colours, RGB)
    return np.asarray(Image.fromarray(shown, "CMYK" if colours == "cmyk" else None).convert("RGB"))


def written(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def forms(bits: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compressions, byte orders, strips and tiles, classic and BigTIFF."""
    lossless = [(None, False), ("packbits", False)] + [(name, p) for name in ("lzw", "deflate") for p in (False, True)]
    for compression, predictor in [*lossless, *([("jpeg", False)] if bits == 8 else [])]:
        for order in "<>":
            for tile in (None, (32, 48)):
                for big in (False, True):
                    options: dict[str, Any] = {"compression": compression, "predictor": predictor}
                    options |= {"byteorder": order, "bigtiff": big}
                    options |= {"tile": tile} if tile else {"rowsperstrip": 32}
                    yield f"{compression} {predictor} {order} {tile} {big}", options


@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colours", COLOURS)
def test_the_table_of_variants(colours: str, bits: int, planes: str) -> None:
    pixels, photometric = COLOURS[colours]
    if pixels.ndim == 2 and planes == "separate":
        pytest.skip("one channel has no planes")
    wanted = png_pixels(colours).astype(int)
    answered = 0
    for name, options in forms(bits):
        if (colours, planes) == ("rgba", "contig") and options["compression"] == "jpeg":
            continue  # tifffile does not write it
        values = pixels.astype(np.uint16) * 257 if bits == 16 else pixels
        if pixels.ndim == 3:
            values = np.moveaxis(values, 2, 0) if planes == "separate" else values
            options["planarconfig"] = planes
        if colours == "rgba":
            options["extrasamples"] = ["unassalpha"]
        data = written(values, photometric=photometric, **options)
        lossy = options["compression"] == "jpeg"
        if lossy and options["bigtiff"] and options["byteorder"] == ">":
            with pytest.raises(ImageError, match="big-endian BigTIFF"):
                image.decode(data, SIZE)
            continue
        difference = np.abs(image.decode(data, SIZE) - wanted)
        assert difference.mean() < 6 if lossy else difference.max() <= 1, name
        answered += 1
    assert answered >= 38


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits_are_scaled(bits: int) -> None:
    values = (GREY.astype(np.uint32) * ((1 << bits) - 1) // 255).astype(np.uint16)
    data = written(values, photometric="minisblack", bitspersample=bits)
    assert np.abs(image.decode(data, SIZE).astype(int) - png_pixels("grey")).max() <= 1


@pytest.mark.parametrize("tag", [281, 341])
def test_twelve_bits_in_sixteen_are_scaled_where_told(tag: int) -> None:
    values = (RGB.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    told = [(tag, 3, 3, (int(values.max()),) * 3, True)]
    given = image.decode(written(values, photometric="rgb", extratags=told), SIZE).astype(int)
    assert np.abs(given - RGB).max() <= 1


@pytest.mark.parametrize("bits", [10, 12, 13])
@pytest.mark.parametrize("form", ["TIFF", "TIFF planes", "PNG"])
def test_and_refused_with_the_reason_where_not(bits: int, form: str) -> None:
    values = GREY.astype(np.uint16) << (bits - 8)
    if form == "PNG":
        data = encoded(Image.fromarray(values), "PNG")
    else:
        planes = "separate" if "planes" in form else "contig"
        stacked = np.stack([values] * 3, axis=0 if planes == "separate" else 2)
        data = written(stacked, photometric="rgb", planarconfig=planes)
    with pytest.raises(ImageError, match="nearly black.*12 or 14 bits"):
        image.decode(data, SIZE)


def test_palette_one_bit_and_unused_channels() -> None:
    palette = Image.fromarray(RGB).quantize(64)
    wanted = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(image.decode(encoded(palette, "TIFF"), SIZE), wanted)
    bits = Image.fromarray(GREY).convert("1")
    np.testing.assert_array_equal(image.decode(encoded(bits, "TIFF"), SIZE), np.asarray(bits.convert("RGB")))
    zeros = np.dstack([RGB, np.zeros(SIZE, np.uint8)])
    for values in (zeros, zeros.astype(np.uint16) * 257):
        for planes in ("contig", "separate"):
            stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
            data = written(stored, photometric="rgb", extrasamples=["unspecified"], planarconfig=planes)
            np.testing.assert_array_equal(image.decode(data, SIZE), RGB)


def test_a_picture_that_is_all_transparent_is_refused() -> None:
    clear = np.dstack([RGB, np.zeros(SIZE, np.uint8)])
    for data in (
        written(clear, photometric="rgb", extrasamples=["unassalpha"]),
        encoded(Image.fromarray(clear), "PNG"),
    ):
        with pytest.raises(ImageError, match="every pixel is transparent"):
            image.decode(data, SIZE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("planes", ["contig", "separate"])  # by Pillow, by tifffile
def test_it_is_turned_upright(orientation: int, planes: str) -> None:
    values = RGB.astype(np.uint16) * 257
    stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
    data = written(stored, photometric="rgb", planarconfig=planes, extratags=[(274, 3, 1, orientation, True)])
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = image.decode(encoded(Image.fromarray(RGB), "PNG", exif=exif), SIZE)
    np.testing.assert_array_equal(image.decode(data, SIZE), wanted)


def test_thumbnails_and_masks_are_no_second_image() -> None:
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1)
        writer.write(RGB, photometric="rgb")
        writer.write(GREY > 99, photometric="minisblack", subfiletype=4)
    np.testing.assert_array_equal(image.decode(file.getvalue(), SIZE), RGB)
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(3):
            writer.write(RGB, photometric="rgb")
    with pytest.raises(ImageError, match="holds 3 frames"):
        image.decode(file.getvalue(), SIZE)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compression": "jpeg2000"}, "JPEG 2000"),
        ({"compression": "lzma"}, "LZMA"),
        ({"photometric": "cielab"}, "colours of kind 8"),
        ({"dtype": np.float32}, "floating-point"),
        ({"dtype": np.int16}, "signed"),
        ({"dtype": np.uint32}, "32/32/32 bits"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(options: dict[str, Any], said: str) -> None:
    values = RGB.astype(options.pop("dtype", np.uint8))
    with pytest.raises(ImageError, match=said):
        image.decode(written(values, **{"photometric": "rgb"} | options), SIZE)


def test_without_the_extra_the_hint_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    values = np.moveaxis(RGB.astype(np.uint16) * 257, 2, 0)
    with pytest.raises(ImageError, match=r"16 bits in separate planes.*\[tiff\]"):
        image.decode(written(values, photometric="rgb", planarconfig="separate"), SIZE)


def test_damage_that_the_form_can_tell() -> None:
    for compression in ("deflate", "jpeg"):
        data = written(RGB, photometric="rgb", compression=compression, rowsperstrip=80)
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            begin, length = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
        refused = 0
        for at in range(begin + length // 4, begin + length - 80, 97):
            damaged = data[:at] + bytes(64) + data[at + 64 :]
            try:
                assert image.decode(damaged, SIZE) is not None
            except ImageError as error:
                assert "damaged" in str(error)
                refused += 1
        assert refused == len(range(begin + length // 4, begin + length - 80, 97)) > 3
    for end in (0.3, 0.6, 0.99):
        whole = written(RGB, photometric="rgb", planarconfig="contig")
        with pytest.raises(ImageError, match="damaged"):
            image.decode(whole[: int(len(whole) * end)], SIZE)


def test_directories_and_tiles_are_bounded() -> None:
    many = b"II*\0" + struct.pack("<I", 8)
    for number in range(5000):
        many += struct.pack("<HHHIII", 1, 254, 4, 1, 1, 8 + 18 * (number + 1))
    with pytest.raises(ImageError, match="limit of 4096 TIFF directories"):
        image.decode(many, SIZE)
    data = bytearray(written(RGB, photometric="rgb", tile=(32, 48), compression="deflate"))
    for tag in (322, 323):
        at = data.index(struct.pack("<H", tag))
        data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 26_000)
    with pytest.raises(ImageError, match="26000x26000"):
        image.decode(bytes(data), SIZE)
