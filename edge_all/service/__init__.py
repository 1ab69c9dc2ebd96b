"""edge-all as a service of the system: what it is to run, and what it needs for that and nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAME = "edge-all"
"""Of the unit, the task, and the folders that the system makes for the service."""

DESCRIPTION = "edge_all: answers blood-smear images (research software, not a medical device)"

DEVICES = ("camera", "gpu", "npu")


@dataclass(frozen=True)
class Plan:
    """A command that is to run all the time.

    Attributes:
        words: The program and its arguments, with whole paths.
        reads: Files and folders of others that it reads.
        writes: Folders outside its own that it writes to.
        devices: Kinds of devices that it opens, of `DEVICES`.
        account: The user that it runs as; None for one that has no other purpose.
        token: A file that only its owner can read, and that the command is given as ``--token-file``.
        network: Who reaches it: ``none``, ``machine`` or ``all``.
        notifies: Whether it says when it is ready and that it is alive.
        generates_code: Whether its engine writes machine code at runtime, as OpenVINO does.
    """

    words: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    devices: frozenset[str] = frozenset()
    account: str | None = None
    token: Path | None = None
    network: str = "machine"
    notifies: bool = True
    generates_code: bool = True
