"""The place that a bundle is to be written to: new, empty, or a bundle and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from edge_all import bundle_files, files, record_check
from edge_all.bundle_files import RECORD, SIGNATURE
from edge_all.errors import BundleError

_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What a file manager leaves in a folder that it has shown."""


def check_writable(out: Path) -> None:
    """Check that a bundle can be written to `out`, before hours are spent on making it.

    Raises:
        BundleError: The folder cannot be written to, or `out` holds something else than a bundle.
    """
    try:
        place = files.destination(out)
    except OSError as error:
        raise BundleError(f"{out}: cannot be written ({error.strerror}); give another --out") from None
    above = next(folder for folder in place.absolute().parents if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise BundleError(f"{out}: {above} is not a folder that can be written to; give another --out")
    if not place.exists():
        return
    foreign = _foreign(place)
    if foreign is None:
        raise BundleError(f"{out}: exists and is not a bundle; give --out a new folder, a .zip, or a bundle to replace")
    if foreign:
        raise BundleError(
            f"{out}: the bundle there does not list {min(foreign)}, which would be lost; give another --out, or move it"
        )


def _foreign(place: Path) -> set[str] | None:
    """Names of what lies in a bundle's folder or ``.zip`` and is none of its files; None if that is no bundle."""
    is_zip = place.suffix == ".zip"
    if is_zip != place.is_file() or is_zip == place.is_dir():
        return None
    try:
        there = bundle_files.names(place)
        if not there:
            return set()
        content = record_check.parse(bundle_files.read_record(place))
    except (BundleError, record_check.RecordError):
        return set() if is_zip and not place.stat().st_size else None
    listed = content.get("files")
    if not isinstance(listed, dict) or not {"protocol", "digest"} <= content.keys():
        return None
    folders = set() if is_zip else {path.name for path in place.iterdir() if path.is_dir()}
    return there - listed.keys() - {RECORD, SIGNATURE} - _LITTER | folders
