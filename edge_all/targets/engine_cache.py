"""Graphs as an engine has compiled them for this machine, cached so that the next process starts faster.

A file is named by everything that its content depends on: the graph, the engine's version and options, CPU and system.
It begins with the SHA-256 of the rest, so that a damaged file is made again and never reaches an engine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

from edge_all import cache, machine

_DIGEST_BYTES = hashlib.sha256().digest_size

MOST_BYTES = 2**29
"""The largest graphs, VGG19's, take a fifth of it."""


class Compiled(NamedTuple):
    """A graph as an engine compiled it.

    Attributes:
        content: The engine's own form of it.
        digest: SHA-256 of the content, in hexadecimal digits.
    """

    content: bytes
    digest: str


def place(engine: str, model: bytes, options: Mapping[str, object]) -> str:
    """The name in the cache of an engine's form of a graph on this machine.

    Args:
        engine: Name of the engine.
        model: The ONNX file's bytes.
        options: What the engine was opened with.
    """
    key = json.dumps([engine, hashlib.sha256(model).hexdigest(), sorted(options.items()), machine.fingerprint()])
    return f"engines/{hashlib.sha256(key.encode()).hexdigest()[:32]}.{engine}"


def load_cached(name: str) -> Compiled | None:
    """What is cached under a name of `place`; None if there is nothing, or it is damaged."""
    content = cache.load(name, MOST_BYTES)
    if content is None:
        return None
    digest, compiled = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return Compiled(compiled, digest.hex()) if hashlib.sha256(compiled).digest() == digest else None


def store(name: str, compiled: bytes) -> None:
    """Cache an engine's form of a graph. Where it cannot be written, the next start takes longer; that is no error."""
    cache.store(name, hashlib.sha256(compiled).digest() + compiled)
