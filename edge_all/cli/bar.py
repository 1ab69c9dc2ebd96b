"""The progress bar on a terminal."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from edge_all.cli.estimate import Estimate, done_of, time_left
from edge_all.progress import Progress

DELAY_SECONDS = 2.0
"""Work that is done sooner shows no bar."""

_BAR_WIDTH = 10

_OTHERS_WIDTH = _BAR_WIDTH + len(" 100 % about 2 h 10 min left ")
"""What is beside the title of the work."""


@contextmanager
def shown(
    description: str, unit: str | None, *, stderr: bool, redirect_stdout: bool
) -> Iterator[tuple[Progress, Console]]:
    """Show a bar from `DELAY_SECONDS` on, until the block ends.

    Args:
        description: What is being done.
        unit: What is counted, such as "images"; None shows percent.
        stderr: Draw it on stderr, else on stdout.
        redirect_stdout: Let what is printed to stdout meanwhile appear above the bar: both are one terminal.

    Yields:
        The progress, and the console above whose bar lines can be printed.
    """
    console, estimate = Console(stderr=stderr, highlight=False), Estimate()
    title = Column(no_wrap=True, overflow="ellipsis", max_width=max(12, console.width - _OTHERS_WIDTH))
    bar = RichProgress(
        TextColumn("{task.description}", markup=False, table_column=title),
        BarColumn(bar_width=_BAR_WIDTH),
        _Done(unit),
        _Left(estimate),
        console=console,
        transient=True,
        refresh_per_second=4,
        redirect_stdout=redirect_stdout,
    )
    task = bar.add_task(description, total=None)

    def progress(done: int, total: int) -> None:
        estimate.update(done, total)
        bar.update(task, completed=done, total=total)

    timer = threading.Timer(DELAY_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield progress, console
    finally:
        timer.cancel()
        timer.join()
        if bar.live.is_started:
            bar.stop()


class _Done(ProgressColumn):
    """How much is done."""

    def __init__(self, unit: str | None) -> None:
        super().__init__(Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        done = "" if task.total is None else done_of(int(task.completed), int(task.total), self._unit)
        return Text(done, style="progress.percentage")


class _Left(ProgressColumn):
    """The time that is left, if that is known, and else the time so far."""

    def __init__(self, estimate: Estimate) -> None:
        super().__init__(Column(no_wrap=True))
        self._estimate = estimate

    def render(self, task: Task) -> Text:
        return Text(time_left(self._estimate.seconds(), task.elapsed or 0.0), style="progress.remaining")
