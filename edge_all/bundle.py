"""The bundle: what travels to the mini PC, a folder or the same files in one ``.zip``.

``bundle.json`` is the record: it names every other file with its size and SHA-256 and carries a digest of itself.
`load` checks all of that before anything is used. There is no pickle in a bundle and none is ever read.
docs/bundle.md describes the record field by field.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_all.errors import BundleError

PROTOCOL = 1
"""Newest version of the bundle's form that this runtime reads."""

RECORD = "bundle.json"

BUILTIN = Path(__file__).with_name("builtin")
"""The bundle in the wheel, so that ``edge-all classify`` answers at once, offline; scripts/builtin makes it."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files have been checked.

    Attributes:
        path: The folder or ``.zip`` it was read from.
        record: The content of ``bundle.json``.
    """

    path: Path
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.record["name"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the graph's probabilities."""
        return tuple(self.record["classes"])

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width, in pixels, that the graph takes."""
        return int(self.record["input"]["height"]), int(self.record["input"]["width"])

    @property
    def least_probability(self) -> float:
        """Of the most probable class: under it an image is referred and not answered."""
        return float(self.record.get("referral", {}).get("threshold", 0.0))

    @property
    def digest(self) -> str:
        return str(self.record["digest"])

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.record["models"])

    def precisions(self, target: str) -> tuple[str, ...]:
        """Precisions that the bundle carries for `target`, the one to prefer first."""
        return tuple(self.record["models"].get(target, ()))

    def model_file(self, target: str, precision: str) -> str:
        """Name of the graph for `target` at `precision`.

        Raises:
            BundleError: The bundle carries none; the message lists what it does carry.
        """
        if target not in self.targets:
            made_for = ", ".join(self.targets)
            raise BundleError(f"{self.path}: not made for target {target}, only for {made_for}; export it for {target}")
        try:
            return str(self.record["models"][target][precision])
        except KeyError:
            carried = ", ".join(f"{t} {'/'.join(ps)}" for t, ps in self.record["models"].items())
            raise BundleError(
                f"{self.path}: holds no {precision} graph for target {target}; it holds {carried}"
            ) from None

    def read(self, name: str) -> bytes:
        """The bytes of one of its files."""
        with _open(self.path, name) as file:
            return bytes(file.read())


def load(path: Path) -> Bundle:
    """Open a bundle and check its protocol, its own digest, and every file's size and SHA-256.

    Args:
        path: A bundle (a folder or a ``.zip``), or a folder of bundles, of which the newest is taken.

    Raises:
        BundleError: Missing, damaged, incomplete, or written by a newer edge_all; the message names the file.
    """
    if path.is_dir() and not (path / RECORD).exists() and (found := newest(path)):
        path = found
    record = _record(path)
    for name, wanted in record["files"].items():
        if "/" in name or "\\" in name or name in ("", "..", RECORD):
            raise BundleError(f"{path}: {name!r} is no plain file name; the bundle is damaged: export or copy it again")
        _check_file(path, name, wanted)
    return Bundle(path, record)


def newest(folder: Path) -> Path | None:
    """The bundle in `folder` that was written last, by its file time, or None."""
    if not folder.is_dir():
        return None
    found = [p for p in folder.iterdir() if not p.name.startswith(".")]
    found = [p for p in found if (p / RECORD).is_file() or (p.suffix == ".zip" and p.is_file())]
    return max(found, key=lambda p: ((p / RECORD) if p.is_dir() else p).stat().st_mtime, default=None)


def default() -> Path:
    """The newest bundle in ``./models``, else the built-in one."""
    return newest(Path("models")) or BUILTIN


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record's canonical form: sorted keys, no spaces, UTF-8, without its own ``digest``."""
    canonical = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(out: Path, record: Mapping[str, Any], files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle aside, flush it to the disk, and rename it into place.

    A bundle that is already at `out` is replaced at the end; a run that fails or is killed leaves it as it was.

    Args:
        out: The bundle's folder, or a ``.zip``.
        record: Everything but ``protocol``, ``files`` and ``digest``, which are added here.
        files: Every other file of the bundle, by name.

    Raises:
        BundleError: `out` exists and is no bundle, or the disk refuses (full, read-only).
    """
    check_writable(out)
    whole = dict(record) | {
        "protocol": PROTOCOL,
        "files": {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in sorted(files.items())},
    }
    whole["digest"] = digest(whole)
    text = json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _aside(out) as room:
            built = room / "bundle"
            built.mkdir()
            for name, data in (*files.items(), (RECORD, text.encode())):
                _write_synced(built / name, data)
            if out.suffix == ".zip":
                built = _zipped(built, room / "bundle.zip")
            if out.exists():
                out.rename(room / "replaced")
            built.rename(out)
            _sync_folder(out.parent)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror or error}); nothing was left there") from None
    return Bundle(out, whole)


def check_writable(out: Path) -> None:
    """Refuse a place that cannot be written, or holds something else, before hours are spent on what would go there."""
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BundleError(f"{out}: {above} is no folder that can be written to; give another --out")
    is_bundle = (out / RECORD).is_file() or (out.suffix == ".zip" and out.is_file())
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_bundle and not is_empty:
        raise BundleError(f"{out}: exists and is no bundle; give --out a new folder, a .zip, or a bundle to replace")


@contextmanager
def _open(path: Path, name: str) -> Any:
    """Open one of a bundle's files, or say which is missing."""
    try:
        if path.is_dir():
            with open(path / name, "rb") as file:
                yield file
        else:
            with zipfile.ZipFile(path) as archive, archive.open(name) as file:
                yield file
    except (FileNotFoundError, KeyError):
        raise BundleError(f"{path}: {name} is missing; export or copy the bundle again") from None
    except (OSError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise BundleError(f"{path}: {name} cannot be read ({error}); export or copy the bundle again") from None


def _record(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise BundleError(f"{path}: there is no such bundle; wanted a folder or a .zip that `edge-all export` wrote")
    if path.is_dir() and not (path / RECORD).exists():
        raise BundleError(f"{path}: no bundle, {RECORD} is missing; wanted a folder that `edge-all export` wrote")
    with _open(path, RECORD) as file:
        data = file.read()
    damaged = BundleError(f"{path}: {RECORD} is damaged; export or copy the bundle again")
    try:
        record = json.loads(data.decode())
        protocol = record["protocol"]
    except (ValueError, KeyError, TypeError):
        raise damaged from None
    if not isinstance(protocol, int) or protocol < 1:
        raise damaged
    if protocol > PROTOCOL:
        raise BundleError(
            f"{path}: written in protocol {protocol}, and this edge_all reads up to {PROTOCOL}: "
            "update it (pip install -U edge-all), or export the bundle again with this version"
        )
    try:
        intact = record["digest"] == digest(record)
    except (KeyError, ValueError):
        raise damaged from None
    if not intact:
        raise damaged
    return dict(record)


def _check_file(path: Path, name: str, wanted: Mapping[str, Any]) -> None:
    with _open(path, name) as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size != wanted["bytes"]:
        raise BundleError(
            f"{path}: {name} has {size} bytes, and {wanted['bytes']} are wanted; export or copy the bundle again"
        )
    if sha256 != wanted["sha256"]:
        raise BundleError(f"{path}: {name} is damaged (its SHA-256 differs); export or copy the bundle again")


@contextmanager
def _aside(out: Path) -> Any:
    """A hidden folder beside `out`, on the same file system, gone at the end; leftovers of killed runs go too."""
    prefix = f".{out.name}.writing-"
    for stale in out.parent.glob(f"{prefix}*"):
        owner = stale.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(stale, ignore_errors=True)
    room = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=out.parent))
    try:
        yield room
    finally:
        replaced = room / "replaced"
        if replaced.exists() and not out.exists():
            replaced.rename(out)
        shutil.rmtree(room, ignore_errors=True)


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
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
