"""The bundle: the files that go to the mini PC, in a folder or in one ``.zip``.

``bundle.json`` is the record (`edge_all.record`): it names every other file with its size and SHA-256, and has a digest
of itself. `load` checks all of them before anything is used. A bundle contains no pickle, and none is ever read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from edge_all import bundle_files
from edge_all.errors import BundleError
from edge_all.record import FileEntry, Record, RecordBody

PROTOCOL = 1
"""Newest version of the bundle's form that this runtime reads."""

RECORD = "bundle.json"

TRAINING_IMAGES = "training_images.txt"
"""Bundle file with the first 16 hex digits of the SHA-256 of every image that the head was fitted on."""

RED_CELL_UM = 7.5
"""Diameter of a red cell on a smear, in micrometres."""

BUILTIN = Path(__file__).with_name("builtin")
"""The bundle inside the wheel, with which ``edge-all classify`` works offline at once; scripts/builtin makes it."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked.

    Attributes:
        path: The folder or ``.zip`` that it was read from.
        record: The content of ``bundle.json``.
    """

    path: Path
    record: Record

    @property
    def name(self) -> str:
        return self.record["name"]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the graph's probabilities."""
        return tuple(self.record["classes"])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the graph's input, in pixels."""
        return self.record["input"]["height"], self.record["input"]["width"]

    @property
    def um_per_px(self) -> float:
        """Micrometres of the smear that a pixel of the graph's input shows.

        Where the record has no ``scale``, it is that of the public set: a red cell, 7.5 µm, is 16 pixels across.
        """
        return self.record.get("scale", RED_CELL_UM / 16)

    @property
    def least_probability(self) -> float:
        """If the most probable class has a lower probability than this, the image is referred to a person.

        It is 0 where the record has no ``referral``.
        """
        return self.record.get("referral", {}).get("threshold", 0.0)

    @property
    def digest(self) -> str:
        """SHA-256 of the record, in hexadecimal digits."""
        return self.record["digest"]

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets that the bundle holds graphs for."""
        return tuple(self.record["models"])

    def precisions(self, target: str) -> tuple[str, ...]:
        """Precisions of the graphs for `target`, the preferred one first."""
        return tuple(self.record["models"].get(target, ()))

    def model_file(self, target: str, precision: str) -> str:
        """Name of the graph for `target` at `precision`.

        Raises:
            BundleError: The bundle has none; the message lists those that it has.
        """
        models = self.record["models"]
        if target not in models:
            raise BundleError(
                f"{self.path}: not made for target {target}, only for {', '.join(models)}; export it for {target}"
            )
        if precision not in models[target]:
            graphs = ", ".join(f"{name} {'/'.join(precisions)}" for name, precisions in models.items())
            raise BundleError(f"{self.path}: holds no {precision} graph for target {target}; it holds {graphs}")
        return models[target][precision]

    def read(self, name: str) -> bytes:
        """The bytes of one of its files."""
        with bundle_files.open_file(self.path, name) as file:
            return file.read()


def load(path: Path) -> Bundle:
    """Open a bundle and check its protocol, its own digest, and the size and SHA-256 of every file.

    Args:
        path: A bundle (a folder or a ``.zip``), or a folder of bundles, of which the newest is taken.

    Raises:
        BundleError: It is missing, damaged, incomplete, or written by a newer edge_all; the message names the file.
    """
    if path.is_dir() and not (path / RECORD).exists():
        path = newest(path) or path
    record = _record(path)
    for name, entry in record["files"].items():
        if "/" in name or "\\" in name or name in ("", "..", RECORD):
            raise BundleError(
                f"{path}: {name!r} is not a plain file name, so the bundle is damaged; export or copy it again"
            )
        _check_file(path, name, entry)
    return Bundle(path, record)


def newest(folder: Path) -> Path | None:
    """The bundle in `folder` that was written last, by its file time, or None."""
    if not folder.is_dir():
        return None
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    bundles = [path for path in visible if (path / RECORD).is_file() or (path.suffix == ".zip" and path.is_file())]
    return max(bundles, key=lambda path: ((path / RECORD) if path.is_dir() else path).stat().st_mtime, default=None)


def default() -> Path:
    """The newest bundle in ``./models``, else the built-in one."""
    return newest(Path("models")) or BUILTIN


def digest(record: Mapping[str, object]) -> str:
    """SHA-256 of a record as JSON with sorted keys, no spaces, in UTF-8, and without its own ``digest``."""
    canonical = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(out: Path, record: RecordBody, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole, or not at all.

    A bundle that is already at `out` is replaced at the end; a run that fails or is killed leaves it as it was.

    Args:
        out: The bundle's folder, or a ``.zip``.
        record: The record; ``protocol``, ``files`` and ``digest`` are added here.
        files: Content of every other file of the bundle, by name.

    Raises:
        BundleError: `out` exists and is not a bundle, or the disk refuses (full, read-only).
    """
    check_writable(out)
    entries: dict[str, FileEntry] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(files.items())
    }
    whole: Record = {**record, "protocol": PROTOCOL, "files": entries, "digest": ""}
    whole["digest"] = digest(whole)
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        bundle_files.write(out, {**files, RECORD: text.encode()})
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror or error}); nothing was left there") from None
    return Bundle(out, whole)


def check_writable(out: Path) -> None:
    """Check that a bundle can be written to `out`, before hours are spent on making it.

    Raises:
        BundleError: The folder cannot be written to, or `out` holds something else than a bundle.
    """
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BundleError(f"{out}: {above} is not a folder that can be written to; give another --out")
    is_bundle = (out / RECORD).is_file() or (out.suffix == ".zip" and out.is_file())
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_bundle and not is_empty:
        raise BundleError(f"{out}: exists and is not a bundle; give --out a new folder, a .zip, or a bundle to replace")


def _record(path: Path) -> Record:
    """Read a bundle's record and check its protocol and its digest."""
    if not path.exists():
        raise BundleError(f"{path}: there is no such bundle; wanted a folder or a .zip that `edge-all export` wrote")
    if path.is_dir() and not (path / RECORD).exists():
        raise BundleError(
            f"{path}: not a bundle, for {RECORD} is missing; wanted a folder that `edge-all export` wrote"
        )
    with bundle_files.open_file(path, RECORD) as file:
        content = file.read()
    damaged = BundleError(f"{path}: {RECORD} is damaged; export or copy the bundle again")
    try:
        record = json.loads(content.decode())
        protocol = record["protocol"]
    except (ValueError, KeyError, TypeError):
        raise damaged from None
    if not isinstance(protocol, int) or protocol < 1:
        raise damaged
    if protocol > PROTOCOL:
        raise BundleError(
            f"{path}: written in protocol {protocol}, and this edge_all reads up to {PROTOCOL}: "
            "install a newer edge_all, or export the bundle again with this version"
        )
    try:
        intact = record["digest"] == digest(record)
    except (KeyError, ValueError):
        raise damaged from None
    if not intact:
        raise damaged
    return cast(Record, record)


def _check_file(path: Path, name: str, entry: FileEntry) -> None:
    with bundle_files.open_file(path, name) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size != entry["bytes"]:
        raise BundleError(
            f"{path}: {name} has {size} bytes, and {entry['bytes']} are wanted; export or copy the bundle again"
        )
    if sha256 != entry["sha256"]:
        raise BundleError(f"{path}: {name} is damaged (its SHA-256 differs); export or copy the bundle again")
