"""Graphs as an engine has compiled them for this machine, cached so that the next process starts faster.

A file is named by everything that its content depends on: the graph, the engine's version and options, CPU and system.
It begins with the SHA-256 of the rest, so that a damaged file is made again and never reaches an engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from edge_all import cache, machine

_DIGEST_BYTES = hashlib.sha256().digest_size


def place(engine: str, model: bytes, options: Mapping[str, object]) -> Path:
    """The file for an engine's form of a graph on this machine.

    Args:
        engine: Name of the engine.
        model: The ONNX file's bytes.
        options: What the engine was opened with.
    """
    key = json.dumps([engine, hashlib.sha256(model).hexdigest(), sorted(options.items()), machine.fingerprint()])
    return cache.folder("engines") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.{engine}"


def load_cached(file: Path) -> bytes | None:
    """The cached content of a file of `place`; None if there is none, or it is damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, compiled = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return compiled if hashlib.sha256(compiled).digest() == digest else None


def store(file: Path, compiled: bytes) -> None:
    """Cache an engine's form of a graph. Where it cannot be written, the next start takes longer; that is no error."""
    cache.store(file, hashlib.sha256(compiled).digest() + compiled)
