"""Signatures of bundles in the format of minisign, beside the record as ``bundle.json.minisig``.

The record has the digest of everything, so its signature covers the whole bundle. The package py-minisign is asked for
only where something is signed or checked; minisign itself (https://jedisct1.github.io/minisign) checks the same file.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_all.errors import BundleError, SigningKeyError, ToolchainError, install_hint

if TYPE_CHECKING:
    import minisign

ENVIRONMENT = "EDGE_ALL_KEYS"
"""Where public keys are looked for; if it is set, only bundles are loaded that one of these keys has signed."""

_MAX_KEY = 10_000
"""More bytes than a key file has."""

_ID = slice(2, 10)
"""Where the key's number is, in a decoded key or signature."""


def trusted(keys: Path | None = None) -> Sequence[minisign.PublicKey] | None:
    """Read the public keys of those whose bundles are to be believed.

    Args:
        keys: A file of minisign's with a public key, or a folder of such files, ``*.pub``; None takes
            ``$EDGE_ALL_KEYS``.

    Returns:
        The keys; None where neither is given, so that no signature is asked for.

    Raises:
        SigningKeyError: There is no key, or a file is none.
        ToolchainError: py-minisign is not installed.
    """
    asked = f"--keys {keys}" if keys else ENVIRONMENT
    if keys is None:
        given = os.environ.get(ENVIRONMENT)
        if given is None:
            return None
        if not given:
            raise SigningKeyError(
                f"{ENVIRONMENT} is empty; wanted a public key's file or a folder of them, or unset it"
            )
        keys = Path(given)
    files = sorted(keys.glob("*.pub")) if keys.is_dir() else [keys]
    if not files:
        raise SigningKeyError(f"{asked}: no public key (*.pub) is in {keys}; put a key of minisign there")
    return [_read(file, _library().PublicKey) for file in files]


def check(path: Path, content: bytes, signature: bytes | None, keys: Sequence[minisign.PublicKey]) -> str:
    """Check that one of these keys has signed a bundle's record.

    Args:
        path: The bundle, for the error.
        content: Bytes of ``bundle.json``.
        signature: Bytes of its signature; None where there is none.
        keys: Of `trusted`.

    Returns:
        The key's ID, as minisign writes it.

    Raises:
        BundleError: None of them has.
    """
    if signature is None:
        raise BundleError(f"{path}: not signed, and only signed bundles may be used here; ask its maker to sign it")
    known = _library()
    try:
        parsed = known.Signature.from_bytes(signature)
        _check_padding(signature)
    except ValueError:
        raise BundleError(f"{path}: its signature is damaged; export or copy the bundle again") from None
    for key in keys:
        try:
            key.verify(content, parsed)
        except ValueError:
            continue
        return key_id(signature)
    raise BundleError(
        f"{path}: signed by key {key_id(signature)}, or changed since; wanted one of "
        f"{', '.join(_id(key.to_base64()) for key in keys)}: get its maker's public key, or the bundle again"
    )


def _check_padding(signature: bytes) -> None:
    """Raise ValueError where a changed bit would not be noticed: base64's last letter has some that nobody reads."""
    for line in signature.splitlines()[1::2]:
        if base64.b64encode(base64.b64decode(line)) != line.strip():
            raise ValueError("its base64 is not as it is written")


def key_id(signature: bytes) -> str:
    """The ID of the key that a signature names, as minisign writes it; ``unknown`` where the file is damaged."""
    lines = signature.splitlines()
    try:
        return _id(lines[1])
    except (ValueError, IndexError):
        return "unknown"


def signer(file: Path, ask: Callable[[], str]) -> Callable[[bytes], bytes]:
    """Read a secret key, and give what signs a record with it.

    Args:
        file: A secret key of minisign's.
        ask: Asks a person for the key's password, where it has one.

    Raises:
        SigningKeyError: It is no secret key, or the password is wrong.
        ToolchainError: py-minisign is not installed.
    """
    key = _read(file, _library().SecretKey)
    try:
        if key.is_encrypted():
            key.decrypt(ask())
    except ValueError as error:
        raise SigningKeyError(f"--sign {file}: {error}; give the password that the key was made with") from None

    def sign(content: bytes) -> bytes:
        comment = f"timestamp:{int(time.time())}\tfile:bundle.json\thashed"
        return bytes(key.sign(content, trusted_comment=comment)) + b"\n"

    return sign


def _library() -> Any:
    try:
        import minisign
    except ModuleNotFoundError:
        raise ToolchainError(f"signatures need py-minisign, which is not installed: {install_hint('sign')}") from None
    return minisign


def _read(file: Path, kind: Any) -> Any:
    try:
        return kind.from_bytes(file.read_bytes()[:_MAX_KEY])
    except OSError as error:
        raise SigningKeyError(f"{file}: cannot be read ({error.strerror or error}); wanted a key of minisign") from None
    except ValueError:
        raise SigningKeyError(f"{file}: not a key; wanted one that `minisign -G` made") from None


def _id(line: bytes) -> str:
    """The key's ID in a line of base64: eight bytes, the last one first."""
    number = base64.b64decode(line, validate=True)[_ID]
    if len(number) != 8:
        raise ValueError("too short")
    return number[::-1].hex().upper()
