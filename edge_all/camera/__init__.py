"""Cameras at the microscope: their images as they come (`micromanager`), and which are worth an answer (`gate`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Frame", "Source"]


@dataclass(frozen=True)
class Frame:
    """One image of a camera.

    Attributes:
        pixels: In RGB, ``uint8 [H, W, 3]``.
        received: When the image was complete in this machine, as `time.monotonic` counts.
    """

    pixels: npt.NDArray[np.uint8]
    received: float


class Source(Protocol):
    """A camera that is open. It is used by one thread."""

    @property
    def name(self) -> str:
        """What it is, for people."""

    def next(self, seconds: float) -> Frame | None:
        """Wait for an image that comes from now on.

        Args:
            seconds: How long at most.

        Returns:
            The image; None if none has come.

        Raises:
            CameraError: The camera is gone, or has given no image for too long.
        """

    def close(self) -> None:
        """Let the camera go; it is never an error."""
