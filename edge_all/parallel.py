"""The same work on many things, in threads; what has not begun when one fails, or at Ctrl-C, is not done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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


def ahead(work: Callable[[Given], Made], things: Iterable[Given], threads: int) -> Iterator[Made]:
    """Do the work on each of many things, which are taken as they are needed, and yield the results in order.

    Args:
        work: What is done.
        things: What it is done with.
        threads: How many work at the same time; as many results again wait to be taken.
    """
    waiting: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for thing in things:
            waiting.append(pool.submit(work, thing))
            if len(waiting) >= 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
