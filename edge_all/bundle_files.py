"""The files of a bundle on the disk, in a folder or in a ``.zip``: opened one by one, and written all or none."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from edge_all import machine
from edge_all.errors import BundleError


@contextmanager
def open_file(path: Path, name: str) -> Iterator[BufferedIOBase]:
    """Open one of a bundle's files.

    Args:
        path: The bundle's folder or ``.zip``.
        name: Of the file.

    Raises:
        BundleError: It is missing or cannot be read.
    """
    try:
        if path.is_dir():
            with open(path / name, "rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(name) as member:
                yield cast(BufferedIOBase, member)  # a ZipExtFile
    except (FileNotFoundError, KeyError):
        raise BundleError(f"{path}: {name} is missing; export or copy the bundle again") from None
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path}: {name} cannot be read ({error}); export or copy the bundle again") from None


def write(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a hidden folder beside `out`, flush them to the disk, and rename the folder into place.

    What is at `out` is replaced at the end; if writing fails or is killed, it stays as it was.

    Args:
        out: A folder, or a ``.zip``.
        files: Content of each file, by name.

    Raises:
        OSError: The disk refuses.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with _workspace(out) as workspace:
        written = workspace / "bundle"
        written.mkdir()
        for name, content in files.items():
            _write_synced(written / name, content)
        if out.suffix == ".zip":
            written = _zipped(written, workspace / "bundle.zip")
        if out.exists():
            out.rename(workspace / "replaced")
        written.rename(out)
        _sync_folder(out.parent)


@contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same file system, that is removed at the end.

    Those of runs that were killed are removed as well.
    """
    prefix = f".{out.name}.writing-"
    for leftover in out.parent.glob(f"{prefix}*"):
        owner = leftover.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and not machine.is_running(int(owner)):
            shutil.rmtree(leftover, ignore_errors=True)
    workspace = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=out.parent))
    try:
        yield workspace
    finally:
        replaced = workspace / "replaced"
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        shutil.rmtree(workspace, ignore_errors=True)


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk; Windows has no call for that."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, path.name)
    _write_synced(archive, archive.read_bytes())
    return archive
