"""``edge-all explain``: which parts of an image move the graph's answer, as a heat map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE, files
from edge_all.cli import options
from edge_all.cli.output import json_text, say, tell
from edge_all.errors import EdgeAllError

if TYPE_CHECKING:
    from edge_all.explain import Explanation


@click.command("explain")
@click.argument("source", metavar="IMAGE", type=options.LocalPath("an image file"))
@click.option("-o", "--out", type=options.PATH, required=True, metavar="FILE.png", help="The picture to write.")
@options.bundle
@options.target
@options.precision
@options.device
@options.keys
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many covered images are answered at the same time.  [default: one for each core]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, with the map's numbers.")
def command(
    source: Path,
    out: Path,
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    as_json: bool,
) -> None:
    """Draw what moves the answer for an image: a heat map over it.

    Each of 14 x 14 patches is blurred away in turn, and the graph answers again; the heat is how far the probability of
    the most probable class falls. The map shows where the graph's answer depends on pixels, not where a disease is.
    """
    from edge_all import bundle as bundles
    from edge_all import explain, image, machine, overlay, self_check
    from edge_all.targets import EngineOptions

    _check_out(source, out)
    data = image.read_bytes(source)
    cores = threads or machine.usable_cores()
    engine = EngineOptions(target, device, None, 1 if target == "gpu" else cores)
    classifier = self_check.load(bundles.load(path or bundles.default(tell), keys), engine, precision, tell)
    found = explain.explain(classifier, data, cores)
    picture = explain.draw(found, image.decode_whole(data, overlay.LEAST))
    try:
        files.write(out, picture)
    except OSError as error:
        raise EdgeAllError(f"{out}: cannot be written ({error.strerror or error}); give -o another place") from None
    if as_json:
        say(json_text({"file": str(source), "out": str(out)} | _fields(found)))
    else:
        _tell_people(found, out)


def _check_out(source: Path, out: Path) -> None:
    """Refuse what must not be written to, before the work."""
    if out.suffix.lower() != ".png":
        raise click.UsageError(f"-o {out}: the map is a PNG file; wanted a name that ends in .png")
    files.check_writable(out)
    if out.exists() and source.exists() and os.path.samefile(source, out):
        raise click.UsageError(f"-o {out}: is the image itself; wanted another name, for it would be lost")


def _fields(found: Explanation) -> dict[str, object]:
    answer = found.prediction
    return {
        "label": answer.label,
        "status": answer.status,
        "reason": answer.reason,
        "top": answer.top,
        "probability": answer.probabilities[answer.top],
        "map": [[round(float(value), 9) for value in row] for row in found.map],
        "notes": found.notes,
        "ms": round(found.ms, 1),
    }


def _tell_people(found: Explanation, out: Path) -> None:
    from edge_all.input_check import in_words

    answer = found.prediction
    label = in_words(answer.status, answer.reason)
    if answer.label:
        mark = "?" if answer.status == "refer" else ""
        label = f"{answer.label}{mark}  {answer.probabilities[answer.label]:.1%}"
    most = 100 * max(float(found.map.max()), 0.0)
    say(f"{label}  at most {most:.2g} percentage points for one patch  {found.ms:.0f} ms  {out}")
    for note in (*found.notes, NOTICE):
        say(note, err=True)
