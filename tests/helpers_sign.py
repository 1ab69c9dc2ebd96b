"""Keys of minisign's for the tests; without py-minisign, the tests that need them are left out."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

try:
    import minisign
except ImportError:
    minisign = None

needs_minisign = pytest.mark.skipif(minisign is None, reason="py-minisign is not installed")


class Keys:
    """A key pair on the disk."""

    def __init__(self, folder: Path, name: str, password: str = "") -> None:
        pair = minisign.KeyPair.generate()
        self.public, self.secret = folder / f"{name}.pub", folder / f"{name}.key"
        self.public.write_bytes(bytes(pair.public_key) + b"\n")
        self.id = base64.b64decode(pair.public_key.to_base64())[2:10][::-1].hex().upper()
        if password:
            pair.secret_key.encrypt(password, opslimit=2**15, memlimit=2**24)
        self.secret.write_bytes(bytes(pair.secret_key) + b"\n")
