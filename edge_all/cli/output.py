"""What the commands print: tables on stdout, progress and notices on stderr."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from edge_all.cli.estimate import Estimate, done_of, duration, time_left
from edge_all.progress import Console, Progress, ignore

if TYPE_CHECKING:
    from rich.table import Table

_LOG_SECONDS = 60.0
"""Between two lines of progress in a log."""


def console() -> Console:
    """Where a long job reports to: steps and notices on stderr."""
    return Console(step, tell)


def tell(line: str) -> None:
    """Say one line on stderr."""
    click.echo(f"edge-all: {line}", err=True)


def note(line: str, *, err: bool = True) -> None:
    """Print a line, on stderr or on stdout; on a terminal it is broken between words."""
    if (sys.stderr if err else sys.stdout).isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    click.echo(line, err=err)


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """A step of a longer job: its progress, and a line with its time at the end."""
    start = time.perf_counter()
    with progress(title) as report:
        yield report
    click.echo(f"{title}: {duration(time.perf_counter() - start)}", err=True)


@contextmanager
def progress(description: str, unit: str | None = None) -> Iterator[Progress]:
    """A progress bar on stderr for work of over two seconds; where that is no terminal, a line a minute.

    Args:
        description: What is being done.
        unit: What is counted, such as "images"; None shows percent.
    """
    if not sys.stderr.isatty():
        with _log(description, unit) as report:
            yield report
        return
    from edge_all.cli import bar

    with bar.shown(description, unit, stderr=True, redirect_stdout=_is_one_terminal()) as (report, _):
        yield report


@contextmanager
def answers(description: str, unit: str) -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """Progress of work that prints its answers on stdout as they come.

    On a terminal a bar is on stderr, and the answers scroll above it if stdout is the same terminal. Where stderr is no
    terminal there is no progress.

    Args:
        description: What is being done.
        unit: What is counted, such as "images".

    Yields:
        The progress, and what prints a line of an answer.
    """
    if not sys.stderr.isatty():
        yield ignore, click.echo
        return
    from edge_all.cli import bar

    together = _is_one_terminal()
    with bar.shown(description, unit, stderr=not together, redirect_stdout=together) as (report, screen):
        yield report, screen.out if together else click.echo


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = (), by_use: Sequence[str] = ()
) -> list[str]:
    """Print a table whose cells are never folded or cut.

    Args:
        columns: Their titles.
        rows: Their cells.
        right: Columns that are aligned to the right.
        by_use: On a terminal, the columns to leave out where it is too narrow for all of them, the most useful first;
            columns that are not among these are always there. Empty leaves out none.

    Returns:
        Titles of the columns that were left out.
    """
    from rich.console import Console as RichConsole
    from rich.measure import Measurement

    screen = RichConsole(width=100_000, markup=False, highlight=False, emoji=False)

    def table(chosen: set[str]) -> Table:
        return _table([name for name in columns if name in chosen], columns, rows, right)

    chosen = set(columns)
    if by_use and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        chosen -= set(by_use)
        for name in by_use:
            if Measurement.get(screen, screen.options, table(chosen | {name})).maximum <= width:
                chosen.add(name)
    screen.print(table(chosen))
    return [name for name in columns if name not in chosen]


def _table(chosen: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in chosen:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(row[columns.index(name)] for name in chosen))
    return table


@contextmanager
def _log(description: str, unit: str | None) -> Iterator[Progress]:
    """A line a minute, for a log: how much is done, and the time that is left where that is known."""
    start, estimate, ended = time.monotonic(), Estimate(), threading.Event()
    latest = ""

    def report(done: int, total: int) -> None:
        nonlocal latest
        estimate.update(done, total)
        latest = f"{done_of(done, total, unit)}, "

    def watch() -> None:
        while not ended.wait(_LOG_SECONDS):
            click.echo(f"{description}: {latest}{time_left(estimate.seconds(), time.monotonic() - start)}", err=True)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield report
    finally:
        ended.set()
        thread.join()


def _is_one_terminal() -> bool:
    """Whether stdout and stderr, a terminal, are the same one."""
    if not sys.stdout.isatty():
        return False
    return sys.platform == "win32" or os.ttyname(sys.stdout.fileno()) == os.ttyname(sys.stderr.fileno())
