"""What a process holds while it runs for long, and how that changes: memory, open files, threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import psutil


class Held(NamedTuple):
    """What a process holds: memory in kB, open files, threads."""

    memory: float
    files: float
    threads: float


def now(process: psutil.Process) -> Held:
    """What it holds now; on Windows its handles count as files."""
    files = process.num_fds() if psutil.POSIX else process.num_handles()
    return Held(process.memory_info().rss / 1024, files, process.num_threads())


def slopes(states: Sequence[Held], every: int) -> str:
    """Slopes over the last quarter of a run, when rooms are full and the engines' memory is there.

    Args:
        states: In the order of the run.
        every: How many images lie between two of them.
    """
    late = np.array(states[3 * len(states) // 4 :])
    memory, files, threads = np.polyfit(np.arange(len(late)) * every / 1000, late, 1)[0]
    return (
        f"a thousand change memory by {memory:+.1f} kB, files by {files:+.3f}, threads by {threads:+.3f}; "
        f"memory {states[0].memory / 1e3:.1f} to {states[-1].memory / 1e3:.1f} MB"
    )
