"""Writing files of a study's folder."""

from __future__ import annotations

from pathlib import Path

from edge_all import files
from edge_all.errors import StudyError


def write(path: Path, text: str) -> None:
    """Write a text file whole, or leave what was there; its folder is made where it is missing.

    Raises:
        StudyError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text + "\n")
    except OSError as error:
        raise StudyError(f"--out {path.parent}: cannot be written ({error.strerror}); give another folder") from None
