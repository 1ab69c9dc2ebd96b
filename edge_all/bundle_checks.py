"""The checks of a bundle before it is believed: its record, the files that this lists, and the graphs among them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from edge_all import bundle_files, graph_check, record_check
from edge_all.bundle_files import RECORD
from edge_all.errors import BundleError
from edge_all.record import Record

PROTOCOL = 2
"""Newest version of the bundle's form, which is written; this runtime reads the older ones too.

From 2 on, what the classifier reads is a value of every graph by the name of ``selected``, and a bundle may hold
``training_features.npz`` and say what it was adapted from.
"""


def digest(record: Mapping[str, object]) -> str:
    """SHA-256 of a record as JSON with sorted keys, no spaces, in UTF-8, and without its own ``digest``."""
    canonical = {key: value for key, value in record.items() if key != "digest"}
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parse_record(path: Path, content: bytes) -> Record:
    """Check a record's protocol, its digest and every field.

    Args:
        path: The bundle, for the error.
        content: Bytes of ``bundle.json``.

    Raises:
        BundleError: It is damaged, of a newer protocol, or no record.
    """
    try:
        record = record_check.parse(content)
        protocol = record.get("protocol")
        if type(protocol) is not int or protocol < 1:
            raise record_check.RecordError(f"protocol is {ascii(protocol)[:60]}; wanted an integer from 1 on")
        if protocol > PROTOCOL:
            raise BundleError(
                f"{path}: written in protocol {protocol}, and this edge_all reads up to {PROTOCOL}: "
                "install a newer edge_all, or export the bundle again with this version"
            )
        if record.get("digest") != digest(record):
            raise record_check.RecordError("its digest differs")
        return record_check.check(record, RECORD)
    except (ValueError, RecursionError) as error:
        reason = f" ({error})" if isinstance(error, record_check.RecordError) else ""
        raise BundleError(f"{path}: {RECORD} is damaged{reason}; export or copy the bundle again") from None


def graphs(record: Record) -> set[str]:
    """Names of the files that are graphs."""
    carried = {record["carried"]["file"]} if "carried" in record else set()
    return {name for precisions in record["models"].values() for name in precisions.values()} | carried


def check_digests(path: Path, record: Record, leave: Collection[str] = ()) -> None:
    """Check the size and SHA-256 of every file that a record lists, but for those that `leave` names.

    Raises:
        BundleError: A file is missing, damaged or no regular file.
    """
    for name, entry in record["files"].items():
        if name not in leave:
            bundle_files.check(path, name, entry)


def check_graphs(path: Path, record: Record) -> None:
    """Check every graph, with its size and SHA-256.

    Raises:
        BundleError: A graph is missing, damaged, or not as the record says.
    """
    size, changes = (record["input"]["height"], record["input"]["width"]), record.get("drift", {}).get("changes", ())
    wanted = graph_check.Wanted(size, len(record["classes"]), len(changes))
    carried = record.get("carried")
    for name in sorted(graphs(record)):
        own = replace(wanted, features=carried["features"]) if carried and carried["file"] == name else wanted
        try:
            graph_check.check(bundle_files.read_checked(path, name, record["files"][name]), own)
        except graph_check.GraphError as error:
            raise BundleError(f"{path}: {name} is not the graph of its record: {error}; export it again") from None
