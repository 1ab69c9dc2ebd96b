"""The images of a part, one by one: only those in hand are in memory."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from edge_all import inputs
from edge_all.archive.sources import PARQUET, TAR, ZIP, File, Part, opened
from edge_all.errors import EdgeAllError, ImageError, in_one_line
from edge_all.image.limits import MAX_FILE_BYTES

_ROWS = 64
"""Rows of a table that are read at once."""

_NAMES = ("file", "path", "name", "filename", "__key__", "id")
"""Columns that name an image, the first that is there."""


class Item(NamedTuple):
    """An image file.

    Attributes:
        name: What it is called in the answer; of a file in a shard, ``SHARD#FILE``.
        read: Gives its bytes; raises an error where it cannot be read.
        file: The file itself; None in a shard or a table.
    """

    name: str
    read: Callable[[], bytes]
    file: File | None = None


def items(part: Part) -> Iterator[Item]:
    """The images of a part.

    A shard or a table that is damaged gives what is before the damage, and then an item that cannot be read.
    """
    if part.kind not in _READERS:
        for file in part.files:
            yield Item(file.url, lambda file=file: _whole(file), file)  # type: ignore[misc]
        return
    (file,) = part.files
    try:
        yield from _READERS[part.kind](file.url)
    except Exception as error:  # a shard is anybody's content, and its reader may fail in any way
        yield Item(file.url, _failing(f"the {part.kind} file is damaged ({in_one_line(error)[:120]})"))


def _failing(reason: str) -> Callable[[], bytes]:
    def read() -> bytes:
        raise ImageError(reason)

    return read


def _whole(file: File) -> bytes:
    if file.size > MAX_FILE_BYTES:
        raise ImageError(f"has {file.size} bytes; wanted at most {MAX_FILE_BYTES}")
    try:
        system, path = opened(file.url)
        with system.open(path, "rb") as stream:
            content: bytes = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, EdgeAllError) as error:
        raise ImageError(f"cannot be read ({in_one_line(error)})") from None
    if len(content) > MAX_FILE_BYTES:
        raise ImageError(f"has more than {MAX_FILE_BYTES} bytes")
    return content


def _of_tar(url: str) -> Iterator[Item]:
    system, path = opened(url)
    with system.open(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|*") as shard:
        for member in shard:
            if not member.isfile() or not _is_image(member.name):
                continue
            name = f"{url}#{member.name}"
            if member.size > MAX_FILE_BYTES:
                yield Item(name, _failing(f"has {member.size} bytes; wanted at most {MAX_FILE_BYTES}"))
                continue
            inner = shard.extractfile(member)
            content = inner.read() if inner else b""
            yield Item(name, _given(content))


def _of_zip(url: str) -> Iterator[Item]:
    system, path = opened(url)
    with system.open(path, "rb") as stream, zipfile.ZipFile(stream) as shard:
        for member in shard.infolist():
            if member.is_dir() or not _is_image(member.filename):
                continue
            name = f"{url}#{member.filename}"
            try:
                with shard.open(member) as inner:
                    content = inner.read(MAX_FILE_BYTES + 1)
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
                yield Item(name, _failing(f"cannot be read ({in_one_line(error)})"))
                continue
            too_long = f"has more than {MAX_FILE_BYTES} bytes"
            yield Item(name, _failing(too_long) if len(content) > MAX_FILE_BYTES else _given(content))


def _of_parquet(url: str) -> Iterator[Item]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    system, path = opened(url)
    with system.open(path, "rb") as stream:
        table = pq.ParquetFile(stream)
        column, inner = _bytes_column(pa, table.schema_arrow)
        named = next((name for name in _NAMES if name in table.schema_arrow.names and name != column), None)
        count = 0
        for batch in table.iter_batches(_ROWS, columns=[column, *([named] if named else [])], use_threads=False):
            for row in batch.to_pylist():
                content = row[column][inner] if inner and row[column] else row[column]
                name = str(row[named]) if named else str(count)
                count += 1
                yield Item(f"{url}#{name}", _given(content) if content else _failing("holds no bytes"))


def _bytes_column(pa: Any, schema: Any) -> tuple[str, str | None]:
    """The first column that holds bytes, or a record with bytes in it, as Hugging Face's datasets write images."""

    def is_bytes(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    for field in schema:
        if is_bytes(field.type):
            return field.name, None
        if pa.types.is_struct(field.type):
            for inner in field.type:
                if is_bytes(inner.type):
                    return field.name, inner.name
    raise ImageError("no column holds bytes; wanted image files in one")


def _given(content: bytes) -> Callable[[], bytes]:
    return lambda: content


def _is_image(name: str) -> bool:
    base = os.path.basename(name)
    return os.path.splitext(base)[1].lower() in inputs.SUFFIXES and not base.startswith(".")


_READERS: dict[str, Callable[[str], Iterator[Item]]] = {TAR: _of_tar, ZIP: _of_zip, PARQUET: _of_parquet}
