"""A camera through Micro-Manager: its configuration file, its device adapters, its images. Needs the extra ``camera``.

Images are popped from the core's buffer, for its other ways of looking at the newest one fail, or repeat an image,
when the buffer is full or is cleared while the camera writes into it.
"""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_all.camera import Frame
from edge_all.camera.pixels import to_rgb
from edge_all.errors import CameraError, in_one_line

if TYPE_CHECKING:
    from pymmcore_plus import CMMCorePlus

_POLL_SECONDS = 0.002
"""Between two looks for a new image: the core tells nobody of one."""

_SILENT_SECONDS = 5.0
"""A camera that gives no image for so long, and for three exposures, is gone: many only fall silent when unplugged."""

_BUFFER_IMAGES, _LEAST_BUFFER_MB = 8, 16
"""Images that the core may hold for us; its own choice is 250 MB."""


def open_camera(configuration: Path) -> MicroManagerSource:
    """Open the camera of a Micro-Manager configuration, and let it run.

    Args:
        configuration: The file, as Micro-Manager's wizard writes it.

    Raises:
        CameraError: It cannot be read, has no camera, or a device of it is not there.
    """
    core = _core()
    try:
        core.loadSystemConfiguration(os.path.abspath(configuration))
        if not core.getCameraDevice():
            raise CameraError("it names no camera; wanted a line such as: Property,Core,Camera,NAME")
        megabytes = _BUFFER_IMAGES * core.getImageBufferSize() // 2**20
        core.setCircularBufferMemoryFootprint(max(_LEAST_BUFFER_MB, megabytes))
        core.startContinuousSequenceAcquisition(0)
        return MicroManagerSource(core)
    except Exception as error:  # of any kind, for each adapter has its own
        _release(core)
        raise CameraError(f"{configuration}: {in_one_line(error)}; check the file, the cable and the power") from None


class MicroManagerSource:
    """A camera that runs.

    Attributes:
        name: Its label in the configuration, and what drives it.
    """

    def __init__(self, core: CMMCorePlus) -> None:
        label = core.getCameraDevice()
        self.name = f"{label} ({core.getDeviceLibrary(label)} {core.getDeviceName(label)})"
        self._core = core
        self._components, self._bits = core.getNumberOfComponents(), core.getImageBitDepth()
        self._patience = max(_SILENT_SECONDS, 3e-3 * core.getExposure())
        self._latest = time.monotonic()

    def next(self, seconds: float) -> Frame | None:
        """As `edge_all.camera.Source`."""
        try:
            for _ in range(self._core.getRemainingImageCount()):  # they are older than the question
                self._pop()
            until = time.monotonic() + seconds
            while not self._core.getRemainingImageCount() or (popped := self._pop()) is None:
                self._check()
                if time.monotonic() >= until:
                    return None
                time.sleep(_POLL_SECONDS)
            values, tags = popped
            self._latest = time.monotonic()
            return Frame(to_rgb(values, self._components, self._bits), self._latest - _age(tags))
        except CameraError as error:
            raise CameraError(f"{self.name}: {error}") from None
        except Exception as error:  # of any kind, for each adapter has its own
            raise CameraError(f"{self.name}: {in_one_line(error)}; check the cable and the power") from None

    def close(self) -> None:
        """Let the camera go."""
        _release(self._core)

    def _pop(self) -> tuple[Any, Any] | None:
        with suppress(IndexError):  # the buffer was full, and has been emptied by the core since
            return self._core.popNextImageAndMD(fix=False)
        return None

    def _check(self) -> None:
        """Check that an image can still come.

        Raises:
            CameraError: The camera has stopped, or is silent.
        """
        if not self._core.isSequenceRunning():
            raise CameraError("it has stopped; check the cable and the power")
        if time.monotonic() - self._latest > self._patience:
            raise CameraError(f"no image for {self._patience:g} s; check the cable, the power and the trigger")


def _core() -> CMMCorePlus:
    """A new core. Importing it sets the root logger's level and begins a log in the user's folder: not here."""
    os.environ.setdefault("PYMM_LOG_FILE", "none")
    root = logging.getLogger()
    level = root.level
    try:
        from pymmcore_plus import CMMCorePlus
    finally:
        root.setLevel(level)
    core = CMMCorePlus()
    # Its events come in a thread of the core, which crashes the process if one comes while the interpreter ends.
    super(CMMCorePlus, core).registerCallback(None)
    return core


def _release(core: CMMCorePlus) -> None:
    """Stop the camera and unload all devices; without that the process may crash when it ends."""
    for step in (core.stopSequenceAcquisition, core.unloadAllDevices):
        with suppress(Exception):
            step()


def _age(tags: Any) -> float:
    """Seconds since the core has got an image, by its tag in local time; 0 where it has none, or a clock was set."""
    try:
        seconds = (datetime.now() - datetime.fromisoformat(tags["TimeReceivedByCore"])).total_seconds()
    except (KeyError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < 1 else 0.0
