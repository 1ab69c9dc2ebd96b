"""Seeded inputs of all kinds for the tests that look for what nobody thought of: images, archives, records, names."""

from __future__ import annotations

import io
import json
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from edge_all.bundle import BUILTIN
from edge_all.bundle_files import RECORD

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 80}),
    "progressive jpeg": ("JPEG", {"progressive": True}),
    "png": ("PNG", {}),
    "tiff": ("TIFF", {}),
    "lzw tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg tiff": ("TIFF", {"compression": "jpeg"}),
    "bmp": ("BMP", {}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "ppm": ("PPM", {}),
}


@cache
def seed(form: str, mode: str = "RGB") -> bytes:
    """A small valid file of one of `FORMS`."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    name, options = FORMS[form]
    file = io.BytesIO()
    coarse.resize((64, 48), Image.Resampling.BICUBIC).convert(mode).save(file, name, **options)
    return file.getvalue()


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with some bytes changed, cut out, put in, doubled or cut off, as damage and attackers do it."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        if not out:
            break
        at = draw(st.integers(0, len(out) - 1) | st.integers(0, min(200, len(out) - 1)))
        kind = draw(st.sampled_from(["bit", "byte", "number", "cut", "insert", "zero", "double", "end"]))
        length = draw(st.integers(1, 64))
        if kind == "bit":
            out[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte":
            out[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
        elif kind == "number":
            value = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 26_000, 70_000]))
            out[at : at + 4] = value.to_bytes(4, draw(st.sampled_from(["little", "big"])))
        elif kind == "cut":
            del out[at : at + length]
        elif kind == "insert":
            out[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "zero":
            out[at : at + length] = bytes(len(out[at : at + length]))
        elif kind == "double":
            out[at:at] = out[at : at + length]
        else:
            del out[at:]
    return bytes(out)


def images() -> st.SearchStrategy[tuple[str, bytes]]:
    """A form's name, and a mutated file of it."""

    def of_form(form: str) -> st.SearchStrategy[tuple[str, bytes]]:
        modes = ["RGB", "L"] + (["RGBA", "P"] if form in ("png", "tiff", "lzw tiff") else [])
        return st.sampled_from(modes).flatmap(lambda mode: st.tuples(st.just(form), mutated(seed(form, mode))))

    return st.sampled_from(sorted(FORMS)).flatmap(of_form)


def values() -> st.SearchStrategy[Any]:
    """Anything that JSON can hold."""
    plain = st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | st.text(max_size=12)
    return st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner))


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """The built-in bundle's record with a few values replaced or left out, at any depth."""
    record: dict[str, Any] = json.loads((BUILTIN / RECORD).read_text())
    for _ in range(draw(st.integers(1, 3))):
        place: Any = record
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            if isinstance(place, dict) and draw(st.integers(0, 4)) == 0:
                del place[key]
            else:
                place[key] = draw(values())
            break
    return record


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """The built-in bundle as a mutated ``.zip``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for path in sorted(Path(BUILTIN).iterdir()):
            archive.writestr(path.name, path.read_bytes())
    return draw(mutated(file.getvalue()))


def names() -> st.SearchStrategy[str]:
    """Names of files that a system may take: controls, quotes, formulas, right-to-left marks, no bytes of UTF-8."""
    odd = st.sampled_from(
        ["\n", "\t", "\x1b[2J", "=1+1", "@x", "-n", "+1", "'", '"', "\u202e", "\udcff", "é", "日本", " "]
    )
    return st.lists(odd | st.text(st.characters(exclude_characters="/\0"), max_size=4), min_size=1, max_size=6).map(
        "".join
    )
