"""The end of a command before its work is done: Ctrl-C, a signal, or a reader that has gone.

A signal ends the work with an exception, which closes files, ends children and takes the progress bar away. Where
that does not come to its end soon, because an engine or a solver is in the middle of something long, the process ends
without it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Of these a system has some."""

_GRACE_SECONDS = 0.4
"""After a signal, the time in which the work may end by itself."""

_SHOW_CURSOR = b"\x1b[?25h"
"""A progress bar hides it (xterm's DECTCEM)."""


class Stop(BaseException):
    """The work is to end now; no handler of errors catches it.

    Attributes:
        status: What the command exits with: 128 and the number of the signal.
        quiet: Say nothing about it.
    """

    def __init__(self, number: int, *, quiet: bool = False) -> None:
        super().__init__()
        self.status = 128 + number
        self.quiet = quiet


def at_signals() -> None:
    """Raise `Stop` in the main thread at a signal, and end the process soon after in any case.

    A signal that is ignored, as SIGHUP is under ``nohup``, stays so.
    """
    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    numbers = {int(number) for number in known if signal.getsignal(number) is not signal.SIG_IGN}
    reading, writing = os.pipe()
    if sys.platform != "win32":
        os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_end_soon, args=(reading, numbers), daemon=True).start()
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise Stop(number)

    for number in numbers:
        signal.signal(number, stop)


def leave(status: int) -> NoReturn:
    """End the process without waiting for its threads; what was registered to be cleaned up at the end is."""
    _end_children()
    atexit._run_exitfuncs()
    os._exit(status)


def _end_children() -> None:
    """End the processes of `multiprocessing`; others end with their input, or with the call that waits for them."""
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for child in multiprocessing.active_children():
            with suppress(AttributeError, OSError):  # it has ended meanwhile
                child.terminate()  # joblib's have no kill()


def _end_soon(reading: int, numbers: set[int]) -> None:
    """Wait for a signal, whatever the main thread does; then let it end by itself for a moment."""
    while not (stopped := [number for number in os.read(reading, 1) if number in numbers]):
        pass
    time.sleep(_GRACE_SECONDS)
    _end_children()
    with suppress(OSError, ValueError):
        if sys.stderr.isatty() and sys.platform != "win32":
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    os._exit(128 + stopped[0])
