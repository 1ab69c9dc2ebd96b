"""Where the tables go: a folder, or a place in an object store; and what is there already."""

from __future__ import annotations

import io
import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_all import files, parallel
from edge_all.archive.sources import FILES, File, Part, opened
from edge_all.errors import EdgeAllError, in_one_line

ENDING = ".parquet"

ERROR = "error"
"""What is counted for an image that cannot be classified."""

SUMMARY = "summary.json"

_READERS = 8


class Store:
    """A place for tables, each written whole or not at all."""

    def __init__(self, url: str) -> None:
        """Take a place, and make the folder where it is one.

        Raises:
            EdgeAllError: It cannot be written to.
        """
        self.url = url
        self._system, self._root = opened(url)
        self._is_local = "file" in self._system.protocol
        try:
            self._system.makedirs(self._root, exist_ok=True)
            self._known = set(self._tables())
        except Exception as error:  # whatever the store's own library raises
            raise EdgeAllError(
                f"--out {url}: cannot be used ({in_one_line(error)[:200]}); give another place"
            ) from None

    def has(self, part: Part) -> bool:
        """Whether a part was answered."""
        return f"{part.name}{ENDING}" in self._known

    def done(self, bundle_digest: str) -> Iterator[File]:
        """The files that were answered as such, and not in a shard or a table.

        Raises:
            EdgeAllError: They were answered by another bundle, or a table cannot be read.
        """
        for name, table in self._read_all("file", "size", "stamp", "bundle_digest"):
            if set(table["bundle_digest"].to_pylist()) - {bundle_digest}:
                raise EdgeAllError(f"--out {self.url}: holds answers of another bundle; give another place")
            if name.startswith(FILES):
                columns = (table[column].to_pylist() for column in ("file", "size", "stamp"))
                yield from (File(*row) for row in zip(*columns, strict=True))

    def counts(self) -> tuple[Counter[str], Counter[str]]:
        """How many images have each status, and how many with ``ok`` each label, in all tables that are there.

        Raises:
            EdgeAllError: A table cannot be read.
        """
        statuses: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        for _, table in self._read_all("status", "label"):
            for status, label in zip(*(table[column].to_pylist() for column in ("status", "label")), strict=True):
                statuses[status or ERROR] += 1
                labels[label] += status == "ok"
        return statuses, +labels

    def _tables(self) -> list[str]:
        """Names of the tables; a hidden one is what a killed run had not finished writing."""
        found = (posixpath.basename(name) for name in self._system.find(self._root))
        return sorted(name for name in found if name.endswith(ENDING) and not name.startswith("."))

    def _read_all(self, *columns: str) -> Iterator[tuple[str, Any]]:
        """Columns of all tables, several read at the same time: an object store takes its time for each."""
        return parallel.ahead(lambda name: (name, self._read(name, columns)), self._tables(), _READERS)

    def _read(self, name: str, columns: Sequence[str]) -> Any:
        import pyarrow.parquet as pq

        try:
            with self._system.open(posixpath.join(self._root, name), "rb") as stream:
                # Without threads, that may still hold Python's objects when the process ends, which aborts it.
                return pq.ParquetFile(stream, pre_buffer=False).read(columns=list(columns), use_threads=False)
        except Exception as error:  # whatever the store's own library raises
            raise EdgeAllError(f"{self.url}/{name}: cannot be read ({in_one_line(error)[:200]}); remove it") from None

    def write(self, part: Part, table: Any) -> None:
        """Write the table of a part.

        Raises:
            EdgeAllError: It cannot be written.
        """
        import pyarrow.parquet as pq

        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        self.write_bytes(f"{part.name}{ENDING}", buffer.getvalue())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            EdgeAllError: It cannot be written.
        """
        path = posixpath.join(self._root, name)
        try:
            if self._is_local:
                files.write(Path(path), content)
            else:
                self._system.pipe_file(path, content)  # an object store shows an object when it is whole
        except Exception as error:
            raise EdgeAllError(f"{self.url}/{name}: cannot be written ({in_one_line(error)[:200]})") from None
