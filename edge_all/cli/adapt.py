"""``edge-all adapt``: a bundle made true at another site, from a few labelled fields of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import console, json_text, print_table, say
from edge_all.errors import GateError, ToolchainError, install_hint

if TYPE_CHECKING:
    from edge_all.export.adapt.request import Result  # noqa: TID251


@click.command("adapt")
@click.argument("site", metavar="SITE_DIR", type=options.DATA)
@options.bundle
@options.keys
@click.option(
    "--out", type=options.PATH, metavar="PATH", help="Folder or .zip of the new bundle.  [default: models/NAME-SITE]"
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Fit the head on these images alone, at the deeper tap that the bundle carries: for another laboratory, or "
    "other classes.",
)
@options.sign
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
def command(
    site: Path,
    path: Path | None,
    keys: Path | None,
    out: Path | None,
    fresh: bool,
    sign: Path | None,
    as_json: bool,
) -> None:
    """Make a new bundle that is true at another site.

    SITE_DIR holds labelled fields of the site in one folder for each class, as edge-all results --export writes it. The
    head is fitted again on these and on what the bundle kept of its training images. A gate measures both on fields
    that were held out; if the site gains nothing, or the home loses, nothing is written.
    """
    from edge_all import bundle as bundles

    signer = options.signer(sign) if sign else None
    try:
        from edge_all.export.adapt import fresh as alone  # noqa: TID251 - as cli/export.py
        from edge_all.export.adapt import run  # noqa: TID251
        from edge_all.export.adapt.request import Request  # noqa: TID251
    except ModuleNotFoundError as error:
        raise ToolchainError(f"adapt needs {error.name}, which is not installed: {install_hint('adapt')}") from None
    adapt = alone.adapt if fresh else run.adapt
    result = adapt(Request(bundles.load(path or bundles.default(), keys), site, out), console(), signer)
    if as_json:
        say(json_text(_summary(result)))
    else:
        _print(result)
    if result.bundle is None:
        raise GateError(
            f"the gate refused to adapt {result.lineage['parent']} to {site}: nothing was written; look at what was "
            "REFUSED, and add fields as the lines above say"
        )
    if not as_json:
        say(NOTICE, err=True)
        say(f"{result.bundle.path}")


def _summary(result: Result) -> dict[str, object]:
    """What ``--json`` prints."""
    return {
        "bundle": str(result.bundle.path) if result.bundle else None,
        "passed": result.bundle is not None,
        "checks": [vars(check) for check in result.checks],
        "advice": list(result.advice),
        **result.lineage,
    }


def _print(result: Result) -> None:
    """The table of the gate, and what would help where it refused."""
    columns = ("held out, percent", "before", "adapted", "wanted", "")
    rows = [
        [check.name, check.before, check.after, check.wanted, "passed" if check.passed else "REFUSED"]
        for check in result.checks
    ]
    print_table(columns, rows, right=("before", "adapted"))
    for line in result.advice:
        say(line, err=True)
