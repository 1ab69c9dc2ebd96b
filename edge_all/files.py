"""Files written aside and renamed, so that a reader sees the old content or the new, and never a part of either."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes | str, mode: int = 0o666) -> None:
    """Write a file whole, or leave what was there; text becomes UTF-8.

    Args:
        path: The file.
        content: What it is to hold.
        mode: Permissions of the file, less what the umask forbids.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(path, mode) as aside:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Give the name of a new, empty file beside `path`, and move it there when the block ends without an error.

    Raises:
        OSError: It cannot be written.
    """
    aside = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        aside.touch(mode, exist_ok=False)
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
