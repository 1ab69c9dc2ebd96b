"""The kept features of the training images: packed, read again, and refused where they are not what they should be."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import exchanged, write_colour_bundle

from edge_all import bundle as bundles
from edge_all import npz, probe, training_features
from edge_all.bundle import Bundle
from edge_all.errors import BundleError
from edge_all.training_features import TrainingFeatures

FROZEN = Path(__file__).parent / "frozen"


def kept(images: int = 12) -> TrainingFeatures:
    """Features of a few images and one copy of each, as `write_colour_bundle` would have: 3 features, 3 classes."""
    rng = np.random.default_rng(0)
    return TrainingFeatures(
        inputs=rng.normal(size=(2 * images, 3)).astype(np.float16),
        shown=np.tile(np.arange(images), 2).astype(np.int32),
        labels=(np.arange(images) % 3).astype(np.int16),
        folds=(np.arange(images) // 3).astype(np.int16),
        groups=np.arange(images).astype(np.int32),
        answers=np.full((images, 3), 1 / 3).astype(np.float16),
    )


def with_file(bundle: Bundle, content: bytes) -> Bundle:
    return exchanged(bundle, training_features.FILE, content)


def test_they_come_back(colour_bundle: Bundle) -> None:
    assert training_features.read(colour_bundle) is None
    found = training_features.read(with_file(colour_bundle, training_features.pack(kept())))
    assert found
    for name, values in vars(kept()).items():
        np.testing.assert_array_equal(getattr(found, name), values)


def test_what_float16_cannot_hold_is_cut() -> None:
    wide = replace(kept(), inputs=np.full((24, 3), 1e9))
    packed = npz.read(training_features.pack(wide), 2**20)
    assert np.isfinite(packed["inputs"]).all() and packed["inputs"].dtype == np.float16


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": np.zeros((24, 4))},
        {"inputs": np.full((24, 3), np.nan)},
        {"shown": np.zeros(24)},
        {"shown": np.full(24, 12)},
        {"labels": np.full(12, 3)},
        {"labels": np.zeros(12)},
        {"folds": np.zeros(12)},
        {"folds": np.full(12, -1)},
        {"groups": np.arange(11)},
        {"answers": np.zeros((12, 2))},
    ],
    ids=str,
)
def test_features_that_do_not_fit_the_bundle_are_refused(colour_bundle: Bundle, change: dict[str, Any]) -> None:
    content = training_features.pack(replace(kept(), **change))
    with pytest.raises(BundleError, match="holds no features of this bundle"):
        training_features.read(with_file(colour_bundle, content))


def _claiming(shape: tuple[int, ...]) -> bytes:
    """A file whose array says that it has this shape and holds a few bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("inputs.npy", header.getvalue() + bytes(64))
    return content.getvalue()


def _pickled() -> bytes:
    content = io.BytesIO()
    np.savez(content, inputs=np.array([{"a": 1}], dtype=object))
    return content.getvalue()


def _bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs.npy", bytes(2**24))
    return content.getvalue()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "no archive": lambda: b"PK" + bytes(100),
    "more rows than bytes": lambda: _claiming((2**40, 64)),
    "fewer rows than bytes": lambda: _claiming((2,)),
    "a negative size": lambda: _claiming((-1, 64)),
    "a pickle": _pickled,
    "a bomb": _bomb,
    "cut off": lambda: training_features.pack(kept())[:-40],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_content_is_refused(colour_bundle: Bundle, name: str) -> None:
    with pytest.raises(npz.NpzError):
        npz.read(HOSTILE[name](), 2**20)
    with pytest.raises(BundleError, match="holds no features of this bundle"):
        training_features.read(with_file(colour_bundle, HOSTILE[name]()))
    with pytest.raises(BundleError, match="no probe of this bundle"):
        probe.images(exchanged(colour_bundle, probe.FILE, HOSTILE[name]()))


def test_a_bundle_of_protocol_1_answers(tmp_path: Path) -> None:
    frozen, made = bundles.load(FROZEN / "protocol1.zip"), write_colour_bundle(tmp_path / "made")
    assert frozen.record["protocol"] == 1 and made.record["protocol"] == 2
    assert training_features.read(frozen) is None
    np.testing.assert_array_equal(probe.images(frozen), probe.images(made))
