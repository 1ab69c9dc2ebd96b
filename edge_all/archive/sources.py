"""What the user named, as parts that are answered one by one: some files, or one shard or table.

Folders, patterns, lists and URLs are all read through fsspec (https://filesystem-spec.readthedocs.io).
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from edge_all import inputs
from edge_all.errors import DataError, in_one_line, install_hint

TAR, ZIP, PARQUET, FILES = "tar", "zip", "parquet", "files"
"""Kinds of parts."""

_CONTAINERS = {".tar": TAR, ".tgz": TAR, ".tar.gz": TAR, ".zip": ZIP, ".parquet": PARQUET}

_LISTS = (".txt", ".lst")

PART_FILES = 512
"""Files of a part; what a kill costs at most."""


class File(NamedTuple):
    """A file, wherever it is.

    Attributes:
        url: As fsspec takes it.
        size: In bytes; -1 where that is not known.
        stamp: What changes when the file does: its tag in an object store, or when it was modified.
    """

    url: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Part:
    """Files that are answered, and whose answers are written, together.

    Attributes:
        kind: `FILES`, or what its only file is: `TAR`, `ZIP` or `PARQUET`.
        files: The files.
    """

    kind: str
    files: tuple[File, ...]

    @property
    def name(self) -> str:
        """Of its table, without an ending: the same for the same files, and for no others."""
        told = json.dumps([self.kind, *self.files])
        return f"{self.kind}-{hashlib.sha256(told.encode()).hexdigest()[:32]}"


def find(named: Sequence[str]) -> Iterator[File]:
    """List what the user named, each file once.

    Args:
        named: Files, folders, patterns such as ``scans/*.jpg``, lists (``.txt``, a name a line), and URLs of them.

    Raises:
        DataError: Something that is named is not there, or cannot be reached.
    """
    seen: set[str] = set()
    for text in named:
        for file in _listed(text):
            if file.url not in seen:
                seen.add(file.url)
                yield file


def parts(files: Iterable[File], done: Iterable[File] = ()) -> Iterator[Part]:
    """Files as parts; those that were answered before are left out.

    Args:
        files: As of `find`.
        done: Images that need not be answered again.
    """
    known, together = frozenset(done), []
    for file in files:
        kind = kind_of(file.url)
        if kind != FILES:
            yield Part(kind, (file,))
        elif file not in known:
            together.append(file)
            if len(together) == PART_FILES:
                yield Part(FILES, tuple(together))
                together = []
    if together:
        yield Part(FILES, tuple(together))


def kind_of(url: str) -> str:
    """What a file is, by its ending."""
    lower = posixpath.basename(url).lower()
    return next((kind for ending, kind in _CONTAINERS.items() if lower.endswith(ending)), FILES)


def opened(url: str) -> tuple[Any, str]:
    """The file system of a URL or a path, and the path in it.

    Raises:
        DataError: No file system of this kind is installed, or the URL is none.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise DataError(f"archives take an extra: {install_hint('archive')}") from None
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataError(f"{url}: cannot be reached ({in_one_line(error)})") from None
    return system, str(path)


def _listed(text: str) -> Iterator[File]:
    system, path = opened(text)
    try:
        if any(sign in path for sign in "*?[") and not system.exists(path):
            found: Mapping[str, Mapping[str, Any]] = system.glob(path, detail=True)
        elif system.isdir(path):
            found = {name: info for name, info in system.find(path, detail=True).items() if _is_wanted(name, path)}
        elif path.lower().endswith(_LISTS):
            lines = system.cat_file(path).decode().splitlines()
            for line in filter(None, map(str.strip, lines)):
                yield from _listed(line)
            return
        else:
            found = {path: system.info(path)}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or in_one_line(error)
        raise DataError(f"{text}: cannot be read ({reason}); name files, folders, patterns or URLs") from None
    files = [_file(system, name, info) for name, info in sorted(found.items()) if _is_file(info)]
    if not files:
        raise DataError(f"{text}: no image, shard or table is there; wanted {' '.join(sorted(_ENDINGS))}")
    yield from files


_ENDINGS = inputs.SUFFIXES | _CONTAINERS.keys()


def _is_wanted(name: str, folder: str) -> bool:
    """Whether a file below a folder is looked at: by its ending, and not if it or a folder above it is hidden."""
    below = name.removeprefix(folder).strip("/").split("/")
    return below[-1].lower().endswith(tuple(_ENDINGS)) and not any(part.startswith(".") for part in below)


def _is_file(info: Mapping[str, Any]) -> bool:
    """Whether this is a file, or a link to one: fsspec calls that "other"."""
    return info.get("type", "file") == "file" or bool(info.get("islink"))


def _file(system: Any, name: str, info: Mapping[str, Any]) -> File:
    stamp = next((info[key] for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if info.get(key)), "")
    size = info.get("size")
    return File(system.unstrip_protocol(name), -1 if size is None else int(size), str(stamp))
