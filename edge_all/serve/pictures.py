"""Images for a screen: any that can be classified, as a JPEG that any browser shows."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from edge_all import image

_LONGEST = 1280
"""Pixels of the longer side."""


def as_jpeg(data: bytes) -> bytes:
    """An image file's bytes as a JPEG, upright and no larger than a screen.

    Raises:
        ImageError: It is no image that can be read.
    """
    return small_jpeg(Image.fromarray(image.decode_whole(data, _LONGEST)), 92)


def small_jpeg(picture: Image.Image, quality: int) -> bytes:
    """A picture in RGB as a JPEG, no larger than a screen; the picture itself becomes no larger, too."""
    buffer = io.BytesIO()
    picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR)
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Pixels ``uint8 [H, W, 3]`` as a PNG, without loss; packed quickly rather than tightly."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
