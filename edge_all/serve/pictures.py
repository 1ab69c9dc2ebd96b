"""Images for a screen: any that can be classified, as a JPEG that any browser shows."""

from __future__ import annotations

import io

from PIL import Image

from edge_all import image

_LONGEST = 1280
"""Pixels of the longer side."""


def as_jpeg(data: bytes) -> bytes:
    """An image file's bytes as a JPEG, upright and no larger than a screen.

    Raises:
        ImageError: It is no image that can be read.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(image.decode_whole(data, _LONGEST))
    picture.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BILINEAR)
    picture.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()
