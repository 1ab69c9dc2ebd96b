"""``edge-all demo``: the whole main job on drawn images, offline."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from edge_all.cli import options
from edge_all.cli.output import say, step
from edge_all.cli.text import shown
from edge_all.errors import ToolchainError, install_hint


@click.command("demo")
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    default=Path("demo"),
    show_default=True,
    help="Folder for the images, the bundle and the measurements.",
)
@options.seed
@click.pass_context
def command(ctx: click.Context, out: Path, seed: int) -> None:
    """Try everything on drawn images: export, classify, bench.

    160 smear images are drawn and a bundle is exported from them; it classifies some of them, and is measured. The
    figures show that everything works, and say nothing about blood.
    """
    from edge_all import bundle_place, files

    try:
        from edge_all.export.dataset.synthetic import draw  # noqa: TID251 - the drawing is part of the toolchain
    except ModuleNotFoundError as error:
        raise ToolchainError(
            f"the demo needs {error.name}, which is not installed: {install_hint('export')}; "
            "to try the built-in bundle instead: edge-all classify IMAGE"
        ) from None
    images, bundle, report = out / "images", out / "models" / "efficientnet_lite0", out / "bench.json"
    bundle_place.check_writable(bundle)
    if out.exists():
        files.check_writable(report)
    with step(f"Drawing 4 x 40 fields into {images}"):
        draw(images, seed=seed)
    words = (
        "--backbone",
        "efficientnet_lite0",
        "--data",
        images,
        "--source",
        "drawn by edge-all demo",
        "--out",
        bundle,
    )
    _run(ctx, "export", *words, "--seed", seed)
    first = [sorted(folder.iterdir())[0] for folder in sorted(images.iterdir())]
    _run(ctx, "classify", *first, "--bundle", bundle)
    _run(ctx, "bench", "--quick", "--bundle", bundle, "--data", images, "--json", report)
    for line in f"""
{shown(str(out))}/ now holds
  images/                      160 drawn fields, one folder a class
  models/efficientnet_lite0/   the bundle: copy this folder to the mini PC (MODEL_CARD.md says what is in it)
  bench.json                   what was measured on this machine

On real images, one folder a class:
  edge-all export --backbone efficientnet_lite0 --data DIR
  edge-all classify IMAGE... --target openvino
  edge-all bench --data DIR""".splitlines():
        say(line)


def _run(ctx: click.Context, *words: object) -> None:
    """Show a command as it would be typed, and run it."""
    typed: Sequence[str] = [str(word) for word in words]
    say(err=True)
    say(f"$ edge-all {shlex.join(typed)}", err=True)
    assert ctx.parent and isinstance(ctx.parent.command, click.Group)
    subcommand = ctx.parent.command.get_command(ctx.parent, typed[0])
    assert subcommand
    with subcommand.make_context(typed[0], list(typed[1:]), parent=ctx.parent) as inner:
        subcommand.invoke(inner)
