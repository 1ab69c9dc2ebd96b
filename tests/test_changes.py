"""Changes that microscopes make: each is what it is called, and copies are drawn as stated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers_graphs import pictures

from edge_all.export.dataset import augment
from edge_all.export.dataset.changes import WIDTH, Change

PIXELS = pictures(1, (64, 64))[0]


def changed(**attributes: object) -> np.ndarray:
    """The picture after one change, as numbers."""
    return Change("x", **attributes)(PIXELS, "digest").astype(int)  # type: ignore[arg-type]


def test_no_change_is_none() -> None:
    np.testing.assert_array_equal(changed(), PIXELS)


@pytest.mark.parametrize("change", augment.BATTERY, ids=lambda change: change.name)
def test_every_change_of_the_battery_keeps_shape_and_kind(change: Change) -> None:
    wide = pictures(1, (48, 64))[0]
    after = change(wide, "digest")
    assert after.shape == wide.shape and after.dtype == np.uint8 and (after != wide).any()
    np.testing.assert_array_equal(after, change(wide, "digest"))


def test_turns_and_mirrors() -> None:
    np.testing.assert_array_equal(changed(turns=1), np.rot90(PIXELS))
    np.testing.assert_array_equal(changed(mirrored=True), PIXELS[:, ::-1])
    assert np.abs(changed(angle=90) - np.rot90(PIXELS)).max() <= 1
    assert np.abs(changed(angle=360) - PIXELS).max() <= 1


def test_zoom_is_about_the_middle() -> None:
    assert np.abs(changed(zoom=2)[31:33, 31:33].mean() - PIXELS[31:33, 31:33].mean()) < 3


def test_stain_multiplies_optical_density() -> None:
    """A pixel of pure haematoxylin gets 1.4 times as dense; one of pure eosin stays."""
    haematoxylin, eosin = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])
    pixels = np.rint(255 * np.exp(-np.stack([[0.5 * haematoxylin, 0.5 * eosin]]))).astype(np.uint8)
    after = Change("x", stain=(1.4, 1.0))(pixels, "").astype(int)
    assert np.abs(after[0, 0] - 255 * np.exp(-0.7 * haematoxylin)).max() <= 2
    assert np.abs(after[0, 1] - pixels[0, 1].astype(int)).max() <= 2


def test_gains_and_gamma() -> None:
    red = changed(gains=(0.9, 1, 1))
    assert np.abs(red[..., 0] - 0.9 * PIXELS[..., 0]).max() <= 0.5 and (red[..., 1:] == PIXELS[..., 1:]).all()
    assert (changed(gains=(9, 9, 9)) <= 255).all()
    np.testing.assert_allclose(changed(gamma=2) / 255, (PIXELS / 255) ** 2, atol=0.003)


def test_light_falls_off_to_one_side_and_noise_has_its_size() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    light = Change("x", uneven=0.3)(flat, "a").astype(float)
    assert abs(light.mean() - 128) < 1 and 0.2 < light.max() / 128 - 1 <= 0.3 * 2**0.5 + 0.01
    assert (Change("x", uneven=0.3)(flat, "b") != light).any()
    for width, deviation in ((WIDTH, 8), (2 * WIDTH, 8), (WIDTH // 2, 4)):
        plane = np.full((64, width, 3), 128, np.uint8)
        assert abs((Change("x", noise=8)(plane, "a").astype(float) - 128).std() - deviation) < 0.3


def test_a_blur_is_as_wide_at_every_size() -> None:
    """As wide in the specimen: a step in brightness takes the same share of the picture."""

    def share(width: int) -> float:
        step = np.full((width, width, 3), 255, np.uint8)
        step[:, : width // 2] = 0
        row = Change("x", blur=4)(step, "a")[width // 2, :, 0].astype(float)
        return float(((row > 40) & (row < 215)).sum()) / width

    assert share(WIDTH) == pytest.approx(share(2 * WIDTH), rel=0.1) == pytest.approx(share(WIDTH // 2), rel=0.3)


def test_specks_darken_a_few_places() -> None:
    flat = np.full((96, 96, 3), 200, np.uint8)
    specks = Change("x", dirt=3)(flat, "a").astype(int)
    assert specks.min() < 185 and (specks > 195).mean() > 0.6 and specks.max() <= 200
    assert (Change("x", dirt=3)(flat, "b") != specks).any()


def test_blur_and_compression() -> None:
    assert changed(blur=2).std() < PIXELS.std()
    rough = [np.abs(changed(jpeg=q) - PIXELS).mean() for q in (95, 50, 5)]
    assert 0 < rough[0] < rough[1] < rough[2]


def test_copies_depend_on_the_image_and_the_seed_only() -> None:
    one, two = augment.copies(2, seed=0)
    np.testing.assert_array_equal(one(PIXELS, "a"), augment.copies(2, seed=0)[0](PIXELS, "a"))
    others = [two(PIXELS, "a"), one(PIXELS, "b"), augment.copies(1, seed=1)[0](PIXELS, "a")]
    assert all((other != one(PIXELS, "a")).any() for other in others)


def test_copies_are_drawn_as_the_ranges_say() -> None:
    """Each property has its share of the copies, its limits are reached and not passed, and it is even between them."""
    drawn = [augment.Copy(0, seed=0).change(str(i)) for i in range(4000)]
    for name, values in {
        "gamma": [change.gamma for change in drawn],
        "haematoxylin": [change.stain[0] for change in drawn],
        "blur": [change.blur for change in drawn],
        "zoom": [change.zoom for change in drawn],
        "noise": [change.noise for change in drawn],
    }.items():
        limits = augment.RANGES[name]
        changed = np.array([value for value in values if value != (1 if limits.factor else 0)])
        assert abs(len(changed) / len(drawn) - limits.share) < 0.03, name
        assert limits.low <= changed.min() and changed.max() <= limits.high, name
        low, middle, high = np.quantile(np.log(changed) if limits.factor else changed, [0, 0.5, 1])
        assert abs((middle - low) / (high - low) - 0.5) < 0.05, name


def test_no_copy_is_a_change_of_the_battery() -> None:
    drawn = [augment.Copy(0, seed=0).change(str(i)) for i in range(500)]
    assert not {replace(change, name="") for change in drawn} & {replace(change, name="") for change in augment.BATTERY}
