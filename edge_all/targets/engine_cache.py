"""Graphs as an engine has prepared them for this machine, kept so that the next process starts faster.

A file is named by all that its content depends on: the graph, the engine's version and options, CPU and system. It
begins with the SHA-256 of the rest, so that a damaged one is made again and never reaches an engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_all import cache, machine

_DIGEST = hashlib.sha256().digest_size


def place(engine: str, model: bytes, options: Mapping[str, Any]) -> Path:
    """Where an engine's form of a graph is kept on this machine."""
    key = json.dumps([engine, hashlib.sha256(model).hexdigest(), sorted(options.items()), machine.fingerprint()])
    return cache.folder("engines") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.{engine}"


def recall(file: Path) -> bytes | None:
    """What was kept there; None if there is nothing, or it is damaged."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    return content[_DIGEST:] if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST] else None


def keep(file: Path, content: bytes) -> None:
    """Keep an engine's form of a graph. Where that cannot be written, the next start takes longer, and that is all."""
    cache.store(file, hashlib.sha256(content).digest() + content)
