"""The bundle: the files that go to the mini PC, in a folder or in one ``.zip``.

``bundle.json`` is the record (`edge_all.record`): it names every other file with its size and SHA-256, and has a digest
of itself. `load` checks the record, all files and every graph before anything is used. A bundle contains no pickle, and
none is ever read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_all import bundle_checks, bundle_files, bundle_write, signature
from edge_all.bundle_checks import PROTOCOL, digest
from edge_all.bundle_files import RECORD, SIGNATURE
from edge_all.bundle_place import check_writable
from edge_all.errors import BundleError
from edge_all.progress import Tell
from edge_all.record import DriftRecord, FileEntry, InputCheckRecord, Record, RecordBody

TRAINING_IMAGES = "training_images.txt"
"""Bundle file with the first 16 hex digits of the SHA-256 of every image that the head was fitted on."""

RED_CELL_UM = 7.5
"""Diameter of a red cell on a smear, in micrometres."""

_FAR_LARGER = 4
"""A frame with so many times the pixels of the graph's input on each side may hold more than a field."""

BUILTIN = Path(__file__).with_name("builtin")
"""The bundle inside the wheel, with which ``edge-all classify`` works offline at once; scripts/builtin makes it."""

_TELL: Tell = logging.getLogger("edge_all").warning


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

        Where the record has no ``scale``, it is that of the public set: a red cell, 7.5 µm, is 16 pixels across, or
        as many fewer as the input is smaller than the one that it was chosen in place of.
        """
        shown = self.record["input"]
        return self.record.get("scale", RED_CELL_UM / 16 * shown.get("full_width", shown["width"]) / shown["width"])

    def squeezes(self, size: tuple[int, int] | None) -> bool:
        """Whether an image of this width and height is so large that it may show more than a field; None is no."""
        height, width = self.input_size
        return size is not None and size[0] >= _FAR_LARGER * width and size[1] >= _FAR_LARGER * height

    @property
    def least_probability(self) -> float:
        """If the most probable class has a lower probability than this, the image is referred to a person.

        It is 0 where the record has no ``referral``.
        """
        return self.record.get("referral", {}).get("threshold", 0.0)

    @property
    def drift(self) -> DriftRecord | None:
        """How runs of fields are judged; None where they are not."""
        return self.record.get("drift")

    @property
    def input_check(self) -> InputCheckRecord | None:
        """What tells why a picture is unfamiliar; None where the bundle does not know."""
        return self.record.get("input_check")

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
        """The bytes of one of the files that the record lists; their size and SHA-256 are checked again.

        Raises:
            BundleError: The record does not list it, or it was changed since the bundle was loaded.
        """
        entry = self.record["files"].get(name)
        if entry is None:
            raise BundleError(f"{self.path}: its record lists no file {name}; export or copy the bundle again")
        return bundle_files.read_checked(self.path, name, entry)

    def training_images(self) -> frozenset[str]:
        """The first 16 hexadecimal digits of the SHA-256 of each image that the head was fitted on.

        Raises:
            BundleError: The file that lists them is damaged.
        """
        if TRAINING_IMAGES not in self.record["files"]:
            return frozenset()
        try:
            return frozenset(self.read(TRAINING_IMAGES).decode("ascii").split())
        except UnicodeDecodeError:
            raise BundleError(f"{self.path}: {TRAINING_IMAGES} is no list; export or copy the bundle again") from None


def load(path: Path, keys: Path | None = None) -> Bundle:
    """Open a bundle and check its record, every file and every graph (`edge_all.bundle_checks`).

    Args:
        path: A bundle (a folder or a ``.zip``), or a folder of bundles, of which the newest is taken.
        keys: Public keys (`edge_all.signature.trusted`), of which one must have signed the bundle; None takes
            ``$EDGE_ALL_KEYS``, and without that no signature is asked for.

    Raises:
        BundleError: It is missing, damaged, incomplete, written by a newer edge_all, or not signed by one of the keys;
            the message names the file.
        ToolchainError: A signature is asked for, and py-minisign is not installed.
    """
    trusted = signature.trusted(keys)
    path = find(path)
    content = bundle_files.read_record(path)
    if trusted is not None:
        signature.check(path, content, bundle_files.read_signature(path), trusted)
    record = bundle_checks.parse_record(path, content)
    bundle_checks.check_digests(path, record, leave=bundle_checks.graphs(record))
    bundle_checks.check_graphs(path, record)
    return Bundle(path, record)


def find(path: Path) -> Path:
    """The bundle at a path: the path itself, or the newest bundle in a folder of bundles.

    Raises:
        BundleError: There is none.
    """
    try:
        bundle_write.restore(path)
        if not path.exists():
            raise BundleError(
                f"{path}: there is no such bundle; wanted a folder or a .zip that `edge-all export` wrote"
            )
        if not path.is_dir() or (path / RECORD).exists():
            return path
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); give another --bundle") from None
    found = newest(path)
    if found is None:
        raise BundleError(
            f"{path}: not a bundle, for {RECORD} is missing; wanted a folder that `edge-all export` wrote"
        )
    return found


def newest(folder: Path, tell: Tell = _TELL) -> Path | None:
    """The bundle in `folder` that was written last, by its file time, or None.

    Args:
        folder: It need not exist.
        tell: Says that the folder cannot be read, and which ``.zip`` in it is no bundle.
    """
    try:
        if not folder.is_dir():
            return None
        bundle_write.restore_all(folder)
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        tell(f"{folder}: cannot be read ({error.strerror or error}); no bundle is looked for there")
        return None
    dated: list[tuple[float, Path]] = []
    for path in visible:
        try:
            place = path if path.suffix == ".zip" and not path.is_dir() else path / RECORD
            if place.is_file():
                dated.append((place.stat().st_mtime, path))
        except OSError as error:
            tell(f"{path}: cannot be read ({error.strerror or error}), and left out")
    for _, path in sorted(dated, reverse=True):
        if path.is_dir() or _is_bundle(path):
            return path
        tell(f"{path}: not a bundle, and left out")
    return None


def default(tell: Tell = _TELL) -> Path:
    """The newest bundle in ``./models``, else the built-in one; `tell` is as for `newest`."""
    return newest(Path("models"), tell) or BUILTIN


def write(
    out: Path, record: RecordBody, contents: Mapping[str, bytes], sign: Callable[[bytes], bytes] | None = None
) -> Bundle:
    """Write a bundle whole, or not at all.

    A bundle that is already at `out` is replaced at the end; a run that fails or is killed leaves it as it was.

    Args:
        out: The bundle's folder, or a ``.zip``.
        record: The record; ``protocol``, ``files`` and ``digest`` are added here.
        contents: Content of every other file of the bundle, by name.
        sign: Gives the signature of the record's file; None leaves the bundle unsigned.

    Raises:
        BundleError: `out` exists and is not a bundle, or the disk refuses (full, read-only), or the record is none.
    """
    check_writable(out)
    entries: dict[str, FileEntry] = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(contents.items())
    }
    whole: Record = {**record, "protocol": PROTOCOL, "files": entries, "digest": ""}
    whole["digest"] = digest(whole)
    text = (json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    bundle_checks.parse_record(out, text)
    signed = {SIGNATURE: sign(text)} if sign else {}
    try:
        bundle_write.write(out, {**contents, RECORD: text, **signed})
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror or error}); nothing was left there") from None
    return Bundle(out, whole)


def _is_bundle(archive: Path) -> bool:
    try:
        return RECORD in bundle_files.names(archive)
    except BundleError:
        return False
