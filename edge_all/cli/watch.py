"""``edge-all watch``: answers for the images that come into folders."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import StdoutError, log_to, say, tell

if TYPE_CHECKING:
    from edge_all.journal import Entry
    from edge_all.live import Live


@click.command("watch")
@click.argument("folders", metavar="DIR...", nargs=-1, required=True, type=options.LocalPath("a folder"))
@click.option("--out", type=options.PATH, metavar="FILE", help="Also append every answer to this CSV file.")
@options.journal
@options.log
@click.option(
    "--poll",
    type=click.FloatRange(min=0.01, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Look at all of DIR so often: network folders often give no notice of changes.",
)
@click.option(
    "--incomplete",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Refuse a file that is no image when it has not changed for so long.",
)
@click.option("--move", is_flag=True, help="Move each image into a folder of its label, below DIR.")
@click.option("--once", is_flag=True, help="Answer what is there now, and end.")
@options.answering
def command(
    folders: tuple[Path, ...],
    out: Path | None,
    journal_path: Path | None,
    log_path: Path | None,
    poll: float,
    incomplete: float,
    move: bool,
    once: bool,
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
) -> None:
    """Classify images as they come into folders, until it is stopped.

    Each image is answered once, when it is completely written, and recorded in the journal before it is shown. What
    came while nothing watched is answered at the start. edge-all results shows the journal.
    """
    from edge_all import bundle as bundles
    from edge_all import disk, journal_file, self_check, watch
    from edge_all.cli.appended import Appended
    from edge_all.errors import DataError
    from edge_all.journal import Journal
    from edge_all.live import Live
    from edge_all.progress import Notices
    from edge_all.targets import EngineOptions

    if log_path:
        log_to(log_path)
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: there is no such folder; wanted a folder to watch")
    engine = EngineOptions(target, device, threads, pauses=True)
    live = Live(
        path or bundles.default(tell), lambda bundle: self_check.load(bundle, engine, precision, tell), tell, keys
    )
    statuses: Counter[str] = Counter()
    with Journal.open(journal_path or journal_file.default(), tell=tell) as journal:
        show = _printer(live)

        def report(entry: Entry) -> None:
            statuses[entry.status] += 1
            show(entry)
            if appended:
                appended.update()

        wanted = watch.Options(poll=poll, incomplete=incomplete, move=move, once=once)
        watcher = watch.Watcher(folders, journal, live, wanted, tell, report)
        classes, notices = live.classifier.bundle.classes, Notices(tell)
        appended = Appended(out, journal, watcher.folders, classes, notices) if out else None
        if appended:
            appended.update()
        say(NOTICE, err=True)
        room = disk.Room(journal.path, notices)

        def after() -> None:
            room.look()
            if appended:
                appended.retry()

        watcher.run(after)
    _sum_up(statuses, watcher.incomplete)


def _printer(live: Live) -> Callable[[Entry], None]:
    """Prints entries as ``classify`` does; where stdout cannot be written, the journal still has them."""
    from edge_all.cli.writers import open_writer
    from edge_all.prediction import Prediction

    classifier = live.classifier
    answered, refused = open_writer(None, classifier, say)

    def show(entry: Entry) -> None:
        nonlocal classifier, answered, refused
        if live.classifier is not classifier:
            classifier = live.classifier
            answered, refused = open_writer(None, classifier, say)
        try:
            if entry.top is None:
                refused(entry.file, entry.error)
            else:
                prediction = Prediction(entry.label, entry.status, entry.top, entry.probabilities, entry.ms, 0.0)
                answered(entry.file, prediction)
        except StdoutError as error:
            tell(f"{error}, and the journal has them all")

    return show


def _sum_up(statuses: Counter[str], incomplete: Sequence[Path]) -> None:
    """Say what was answered, and end with 1 if something was not."""
    for path in incomplete:
        tell(f"{path}: no whole image yet; it is looked at again the next time")
    tell(", ".join(f"{statuses[status]} {status}" for status in ("ok", "refer", "unfamiliar", "refused")))
    if statuses["refused"] or incomplete:
        sys.exit(1)
