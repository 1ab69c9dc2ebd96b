"""What the commands print: tables on stdout, progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import click

NOTICE = "Research software, not a medical device: no label here is a diagnosis."

_EVERY = 60.0  # seconds between lines of progress in a log file


class Progress(Protocol):
    """Called with how many are done and how many there are."""

    def __call__(self, done: int, total: int) -> None: ...


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table that is never wrapped or cut where stdout is a file or a pipe."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 1000, markup=False, highlight=False, emoji=False).print(table)


@contextmanager
def progress(description: str) -> Iterator[Progress]:
    """A progress bar on stderr; where that is no terminal, a line a minute."""
    if not sys.stderr.isatty():
        yield _lines(description)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(description: str) -> Progress:
    """What says now and then how far it is, for a log file."""
    start = said = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said < _EVERY or not 0 < done < total:
            return
        said = now
        left = (now - start) * (total - done) / done
        click.echo(f"{description}: {done} of {total}, about {left / 60:.0f} min left", err=True)

    return tell


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """A step of a longer job: its progress, and a line with its time at the end."""
    start = time.perf_counter()
    with progress(title) as bar:
        yield bar
    click.echo(f"{title}: {time.perf_counter() - start:.1f} s", err=True)
