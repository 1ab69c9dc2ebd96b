"""Two names exchanged in one step, where the system can do that: at no moment is either of them missing."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_HERE = -100  # AT_FDCWD of Linux
_RENAME_EXCHANGE = 2  # of Linux's renameat2
_RENAME_SWAP = 2  # of macOS's renamex_np

_NOT_HERE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM})
"""What a system, or a file system, says that cannot exchange names."""


def exchange(one: Path, other: Path) -> bool:
    """Let two files or folders of one file system change places.

    References: https://man7.org/linux/man-pages/man2/rename.2.html, and ``man renamex_np`` on macOS.

    Returns:
        Whether they did; False where the system or the file system has no such call, and then nothing was changed.

    Raises:
        OSError: The file system refuses.
    """
    if sys.platform == "win32":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*paths, ctypes.c_uint(_RENAME_SWAP))
        else:
            failed = library.renameat2(_HERE, paths[0], _HERE, paths[1], ctypes.c_uint(_RENAME_EXCHANGE))
    except AttributeError:  # an older libc
        return False
    number = ctypes.get_errno()
    if failed and number not in _NOT_HERE:
        raise OSError(number, os.strerror(number), str(other))
    return not failed
