"""``edge-all results``: the answers that the journal holds."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all.cli import options
from edge_all.cli.output import json_text, print_table, say, tell
from edge_all.cli.text import cell

if TYPE_CHECKING:
    from edge_all.journal import Entry, Journal


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from edge_all import clock

    try:
        return None if value is None else clock.since(value)
    except (ValueError, OverflowError):
        wanted = "a date such as 2026-11-25, a time such as 2026-11-25T14:30, or how long ago: 30m, 2h, 7d, 4w"
        raise click.BadParameter(f"{value!r}: wanted {wanted}") from None


@click.command("results")
@options.journal
@click.option("--since", callback=_since, metavar="DATE|7d|2h", help="Only answers since then.  [default: all]")
@click.option("--json", "form", flag_value="json", help="Print one JSON object a line.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values with a header.")
@click.option("--counts", is_flag=True, help="Print how many images have each label, and no answers.")
@click.option(
    "--export",
    "folder",
    type=options.PATH,
    metavar="DIR",
    help="Copy the reviewed images that show a class there, one folder a class, and in it one a session.",
)
def command(journal_path: Path | None, since: str | None, form: str | None, counts: bool, folder: Path | None) -> None:
    """Show the answers of edge-all watch, or copy the images that people have reviewed.

    A reviewed label counts before the answered one.
    """
    from edge_all import journal_file
    from edge_all.journal import Journal

    with Journal.open(journal_path or journal_file.default(), create=False) as journal:
        if folder:
            _export(journal, since, folder)
        elif counts:
            _counts(journal.counts(since=since), form)
        else:
            {None: _table, "json": _json, "csv": _csv}[form](journal, since)


_REVIEW = ("review", "review_time", "session", "id")


def _table(journal: Journal, since: str | None) -> None:
    from edge_all.input_check import in_words
    from edge_all.journal import NO_CLASS_COUNTED

    for entry in journal.each(since=since):
        label = f"{entry.label}?" if entry.status == "refer" else entry.label or in_words(entry.status, entry.reason)
        share = f"{entry.probabilities[entry.label]:.1%}" if entry.label else "-"
        review = "" if entry.review is None else f"  reviewed: {entry.review or NO_CLASS_COUNTED}"
        say(f"{entry.id:>6}  {entry.time}  {label:<12}  {share:>6}  {entry.file}{review}")


def _json(journal: Journal, since: str | None) -> None:
    for entry in journal.each(since=since):
        left_out = {"mtime_ns"} | ({"error"} if entry.status != "refused" else set())
        say(json_text({name: value for name, value in vars(entry).items() if name not in left_out}))


def _csv(journal: Journal, since: str | None) -> None:
    from edge_all.cli.writers import csv_columns, csv_line

    classes: dict[str, None] = {}
    for entry in journal.each(since=since):
        classes |= dict.fromkeys(entry.probabilities)
    columns = [*csv_columns(list(classes)), *_REVIEW]
    say(",".join(map(cell, columns)))
    for entry in journal.each(since=since):
        say(csv_line(columns, vars(entry)))


def _counts(counts: dict[str, int], form: str | None) -> None:
    if form == "json":
        say(json_text(counts))
    elif form == "csv":
        say("label,images")
        for label, count in counts.items():
            say(f"{cell(label)},{count}")
    else:
        print_table(("label", "images"), [(label, str(count)) for label, count in counts.items()], right=("images",))


def _export(journal: Journal, since: str | None, folder: Path) -> None:
    """Copy reviewed images that show a class into one folder a class, and say how many."""
    from edge_all.journal import NO_CLASS, NO_CLASS_COUNTED

    done: Counter[str] = Counter()
    for entry in journal.each(since=since):
        if entry.review is not None:
            done["none" if entry.review == NO_CLASS else _copy(entry, entry.review, folder)] += 1
    left_out = f"{done['none']} of {NO_CLASS_COUNTED} left out, " if done["none"] else ""
    tell(
        f"{done['copied']} copied to {folder}, {done['there']} there already, {done['lost']} not found as answered, "
        f"{left_out}of {done.total()} reviewed images"
    )
    if done["lost"]:
        sys.exit(1)


def _copy(entry: Entry, label: str, folder: Path) -> str:
    """Copy an image if it is still the one that was answered; say what came of it."""
    import hashlib

    from edge_all import filing
    from edge_all.errors import ImageError, JournalError
    from edge_all.image import limits

    path = Path(entry.file)
    try:
        content = limits.read(path)
    except ImageError as error:
        tell(f"{path}: {error}")
        return "lost"
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        tell(f"{path}: holds another image since it was answered")
        return "lost"
    target = folder / filing.folder_name(label)
    if entry.session is not None:
        target = target / f"session {entry.session}"
    try:
        return "copied" if filing.put(content, target, path.name) else "there"
    except OSError as error:
        raise JournalError(f"{target}: cannot be written: {error.strerror or error}; give another --export") from None
