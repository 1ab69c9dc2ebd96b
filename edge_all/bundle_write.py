"""A bundle's files written all or none, in a folder or in one ``.zip``, at a place that holds nothing of the user's."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_all import files, machine
from edge_all.exchange import exchange

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every file in a ``.zip``, which knows none before: the same files then give the same bytes, on any clock."""


def write(out: Path, contents: Mapping[str, bytes]) -> None:
    """Write files into a hidden folder beside `out`, flush them to the disk, and put them in place in one step.

    What is at `out` is replaced; if writing fails or is killed, `out` holds the old files or the new ones, whole.

    Args:
        out: A folder, or a ``.zip``; a link stays, and what it leads to is replaced.
        contents: Content of each file, by name.

    Raises:
        OSError: The disk refuses.
    """
    out = files.destination(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _workspace(out) as workspace:
        if out.suffix == ".zip":
            archive = workspace / "bundle.zip"
            _write_zip(archive, contents)
            archive.replace(out)
        else:
            written = workspace / "bundle"
            written.mkdir()
            for name, content in contents.items():
                _write_synced(written / name, content)
            _sync_folder(written)
            _put(written, out)
        _sync_folder(out.parent)


def restore(out: Path) -> None:
    """Put back what was at `out`, if a run was killed between taking it away and putting the new bundle there.

    That can happen only where names cannot be exchanged in one step.
    """
    with suppress(OSError):
        for workspace in [] if out.exists() else _leftovers(out):
            if (workspace / _REPLACED).exists() and not out.exists():
                (workspace / _REPLACED).rename(out)


def restore_all(folder: Path) -> None:
    """`restore` for every bundle of a folder."""
    for workspace in list(folder.glob(f".*{_MARK}*")):
        if (workspace / _REPLACED).exists():
            restore(folder / workspace.name[1 : workspace.name.rindex(_MARK)])


_MARK = ".writing-"

_REPLACED = "replaced"

_AT_WORK: set[Path] = set()
"""The hidden folders that this process is writing into."""


def _leftovers(out: Path) -> list[Path]:
    """Hidden folders beside `out` of runs that are no more."""
    prefix = f".{out.name}{_MARK}"
    with suppress(OSError):
        return [
            path
            for path in out.parent.iterdir()
            if path.name.startswith(prefix)
            and (owner := path.name.removeprefix(prefix).split("-")[0]).isdigit()
            and _is_over(path, int(owner))
        ]
    return []


def _is_over(workspace: Path, owner: int) -> bool:
    """Whether the run is no more that made a hidden folder; in a container, a new run can have the old one's number."""
    return workspace not in _AT_WORK if owner == os.getpid() else not machine.is_running(owner)


@contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out`, on the same file system, that is removed at the end.

    Those of runs that were killed are removed as well.
    """
    restore(out)
    for leftover in _leftovers(out):
        shutil.rmtree(leftover, ignore_errors=True)
    workspace = Path(tempfile.mkdtemp(prefix=f".{out.name}{_MARK}{os.getpid()}-", dir=out.parent))
    _AT_WORK.add(workspace)
    try:
        yield workspace
    finally:
        replaced = workspace / _REPLACED
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        shutil.rmtree(workspace, ignore_errors=True)
        _AT_WORK.discard(workspace)


def _put(written: Path, out: Path) -> None:
    """Move a folder to `out`. What was there is left in the folder's place, or beside it."""
    if not out.exists():
        written.rename(out)
    elif not exchange(written, out):
        replaced = written.with_name(_REPLACED)
        out.rename(replaced)
        written.rename(out)
        replaced.rename(replaced.with_name("removed"))


def _write_synced(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    with open(path, "wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in sorted(contents.items()):
                member = zipfile.ZipInfo(name, _DATE)
                member.external_attr = 0o644 << 16
                archive.writestr(member, content, zipfile.ZIP_DEFLATED)
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
