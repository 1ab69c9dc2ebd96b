"""What the commands print: tables on stdout, progress and notices on stderr.

Every line goes through `say`, so that no name in it acts on a terminal, and a line that cannot be written is an error.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from edge_all.cli.estimate import Estimate, done_of, duration, time_left
from edge_all.cli.stop import Stop
from edge_all.cli.text import json_line, shown
from edge_all.errors import EdgeAllError
from edge_all.progress import Console, Progress, ignore

if TYPE_CHECKING:
    from rich.console import Console as Screen
    from rich.table import Table

    from edge_all.cli.log import Log

_LOG_SECONDS = 60.0
"""Between two lines of progress in a log."""

_SIGPIPE = int(getattr(signal, "SIGPIPE", 13))


class StdoutError(EdgeAllError):
    """Answers cannot be written."""


def prepare() -> None:
    """Make the standard streams such that no character stops a run.

    Raises:
        StdoutError: Stdout is closed.
    """
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if stream is None:
            os.open(os.devnull, os.O_RDWR)  # takes its number, so that no other file gets what is written there
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the end
    if sys.stdout is None:
        raise StdoutError("stdout is closed, and answers are written there; wanted a file or a pipe: > FILE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(line: str = "", *, err: bool = False) -> None:
    """Print a line, with its control characters escaped, on stdout or on stderr.

    Raises:
        StdoutError: Stdout cannot be written.
        Stop: Nobody reads stdout any more.
    """
    text = shown(line)
    if err and _log_file:
        _log_file.write(text)
    _write(text + "\n", sys.stderr if err else sys.stdout)


def log_to(path: Path) -> None:
    """From now on, write every line of stderr into a file too.

    Raises:
        EdgeAllError: The file cannot be written.
    """
    global _log_file
    from edge_all.cli.log import Log

    _log_file = Log(path)


_log_file: Log | None = None


def json_text(value: object) -> str:
    """A value as one line of JSON for stdout."""
    return json_line(value, sys.stdout)


def flush() -> None:
    """Write what stdout still holds.

    Raises:
        StdoutError: Stdout cannot be written.
        Stop: Nobody reads stdout any more.
    """
    _write("", sys.stdout)


def _write(text: str, stream: TextIO) -> None:
    """Write to stdout or stderr at once; what stderr does not take is lost, for there is nowhere to say it."""
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # or Python tries again at its end, and reports that it failed
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is sys.stderr:
            return
        if isinstance(error, BrokenPipeError):
            raise Stop(_SIGPIPE, quiet=True) from None
        raise StdoutError(
            f"stdout cannot be written: {error.strerror or error}; wanted a place for all answers: some are lost"
        ) from None


def console() -> Console:
    """Where a long job reports to: steps and notices on stderr."""
    return Console(step, tell)


def tell(line: str) -> None:
    """Say one line on stderr."""
    say(f"edge-all: {line}", err=True)


def note(line: str, *, err: bool = True) -> None:
    """Print a line, on stderr or on stdout; on a terminal it is broken between words."""
    if (sys.stderr if err else sys.stdout).isatty():
        width = shutil.get_terminal_size().columns
        for part in textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""]:
            say(part, err=err)
        return
    say(line, err=err)


@contextmanager
def step(title: str) -> Iterator[Progress]:
    """A step of a longer job: its progress, and a line with its time at the end."""
    start = time.perf_counter()
    with progress(title) as report:
        yield report
    say(f"{title}: {duration(time.perf_counter() - start)}", err=True)


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

    with bar.shown(shown(description), unit, stderr=True, redirect_stdout=_is_one_terminal()) as (report, _):
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
        yield ignore, say
        return
    from edge_all.cli import bar

    together = _is_one_terminal()
    with bar.shown(shown(description), unit, stderr=not together, redirect_stdout=together) as (report, screen):
        yield report, _above(screen) if together else say


def _above(screen: Screen) -> Callable[[str], None]:
    """Print a line on a terminal, above the bar that is drawn there."""
    return lambda line: screen.out(shown(line), highlight=False)


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
    with screen.capture() as captured:
        screen.print(table(chosen))
    _write(captured.get(), sys.stdout)
    return [name for name in columns if name not in chosen]


def _table(chosen: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in chosen:
        table.add_column(shown(name), justify="right" if name in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(shown(row[columns.index(name)]) for name in chosen))
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
            say(f"{description}: {latest}{time_left(estimate.seconds(), time.monotonic() - start)}", err=True)

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
