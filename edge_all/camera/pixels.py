"""Images as Micro-Manager gives them, in RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edge_all.errors import CameraError


def to_rgb(values: npt.NDArray[Any], components: int, bits: int) -> npt.NDArray[np.uint8]:
    """Make 8-bit RGB of an image in Micro-Manager's form.

    Grey becomes three equal channels. Of more than 8 bits the highest 8 are kept, as the camera states its depth; what
    is above that depth is white.

    Args:
        values: ``uint8``, ``uint16``, or for colour ``uint32`` or ``uint64``, ``[H, W]``: blue, green, red and a byte
            or word without meaning in each number.
        components: 1 for grey, 4 for colour.
        bits: Depth of a component.

    Returns:
        ``uint8 [H, W, 3]``, C-contiguous.

    Raises:
        CameraError: It is another form, such as floating point.
    """
    depth = values.dtype.itemsize // components if components in (1, 4) else 0
    if values.ndim != 2 or depth not in (1, 2):
        raise CameraError(
            f"images of {components} components in {values.dtype.itemsize} bytes; wanted grey or RGB of 8 or 16 bits: "
            "set the camera's PixelType in the configuration"
        )
    channels = values[..., None]
    if components == 4:
        channels = values.view(f"u{depth}").reshape(*values.shape, 4)[..., 2::-1]
    if depth == 2:
        channels = np.minimum(channels >> max(bits - 8, 0), 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(channels, (*values.shape, 3)))
