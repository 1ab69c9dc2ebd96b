"""What can be said of a bundle without running it: whether it is whole, and who signed it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_all import bundle as bundles
from edge_all import bundle_checks, bundle_files, signature
from edge_all.errors import BundleError
from edge_all.record import Record


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        what: What was checked.
        passed: Whether it is as it should be; None where nothing was asked for.
        text: In words.
    """

    what: str
    passed: bool | None
    text: str


def examine(path: Path, keys: Path | None = None) -> list[Finding]:
    """Check a bundle's record, its files, its graphs and its signature.

    Args:
        path: A bundle, or a folder of bundles, of which the newest is taken.
        keys: Public keys, as `edge_all.bundle.load` takes them. If there are any, the bundle must be signed.

    Raises:
        BundleError: There is no bundle, or its record cannot be read.
        SigningKeyError: A key cannot be read.
        ToolchainError: A signature is to be checked, and py-minisign is not installed.
    """
    trusted = signature.trusted(keys)
    path = bundles.find(path)
    content = bundle_files.read_record(path)
    signed = bundle_files.read_signature(path)

    def signer() -> str:
        assert trusted is not None
        return f"by key {signature.check(path, content, signed, trusted)}, which is trusted"

    found: list[Record] = []

    def record() -> str:
        found.append(bundle_checks.parse_record(path, content))
        return f"protocol {found[0]['protocol']}, {found[0]['name']}, digest {found[0]['digest']}"

    def digests() -> str:
        bundle_checks.check_digests(path, found[0])
        return f"{len(found[0]['files'])}, each of the size and the SHA-256 that the record says"

    def graphs() -> str:
        bundle_checks.check_graphs(path, found[0])
        return f"{len(bundle_checks.graphs(found[0]))}, each with the input and the outputs that the record says"

    signing = Finding("signature", None, _unchecked(signed)) if trusted is None else _find("signature", signer)
    findings = [signing, _find("record", record)]
    if found:
        findings += [_find("files", digests), _find("graphs", graphs)]
    return findings


def _unchecked(signed: bytes | None) -> str:
    """What is said of a signature where no key is there to check it."""
    if signed is None:
        return "not signed"
    return f"by key {signature.key_id(signed)}, not checked: give its maker's public key as --key"


def _find(what: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, check())
    except BundleError as error:
        return Finding(what, False, str(error))
