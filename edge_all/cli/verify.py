"""``edge-all verify``: whether a bundle is whole, and who signed it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from edge_all.cli import options
from edge_all.cli.output import say


@click.command("verify")
@click.argument("path", metavar="BUNDLE", type=options.PATH)
@click.option(
    "--key",
    "keys",
    type=options.PATH,
    metavar="PATH",
    help="Public key that must have signed it: a file of minisign's, or a folder of *.pub.  [default: $EDGE_ALL_KEYS]",
)
def command(path: Path, keys: Path | None) -> None:
    """Check that a bundle is whole, without running it, and say who signed it.

    The exit status is 1 if the record, a file or a graph is not as it should be, or if a key is given and that key has
    not signed the bundle.
    """
    from edge_all import verify

    findings = verify.examine(path, keys)
    for finding in findings:
        say(f"{finding.what:<9}  {_WORDS[finding.passed]:<6}  {finding.text}")
    if any(finding.passed is False for finding in findings):
        sys.exit(1)


_WORDS = {True: "ok", False: "FAILED", None: "-"}
