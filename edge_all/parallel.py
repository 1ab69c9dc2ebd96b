"""The same work on many things, in threads; what has not begun when one fails, or at Ctrl-C, is not done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def each(work: Callable[[Given], Made], things: Sequence[Given], threads: int) -> list[Made]:
    """Do the work on each thing; with one thread in the caller's own.

    Args:
        work: What is done; it should be short, for what has begun is not interrupted.
        things: What it is done with.
        threads: How many work at the same time.

    Returns:
        The results, in order.
    """
    if threads == 1:
        return [work(thing) for thing in things]
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(work, things))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
