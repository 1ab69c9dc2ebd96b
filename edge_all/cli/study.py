"""``edge-all study``: the paper's grid, and what its figures are worth."""

from __future__ import annotations

from pathlib import Path

import click

from edge_all import NOTICE, protocols
from edge_all.cli import options
from edge_all.cli.output import console, say
from edge_all.cluster import check_extra
from edge_all.errors import ToolchainError, install_hint


def _by_backbone(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """BACKBONE=VALUE by backbone; a value alone is for all of them."""
    known = options.PartName("backbones").choices()
    for_all: dict[str, str] = {}
    for_one: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            for_all = for_all or dict.fromkeys(known, text)
        elif name in known and value:
            for_one[name] = value
        else:
            raise click.BadParameter(f"{text!r}: wanted BACKBONE=VALUE, BACKBONE one of {', '.join(known)}")
    return for_all | for_one


@click.command("study")
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    default=Path("studies/paper"),
    show_default=True,
    help="Folder of the study; the same folder again continues it.",
)
@click.option(
    "--backbone",
    "backbones",
    multiple=True,
    type=options.PartName("backbones"),
    help="Backbone to study; may be repeated.  [default: the paper's five]",
)
@click.option(
    "--selector",
    "selectors",
    multiple=True,
    type=options.PartName("selectors"),
    help="Feature selector to study; may be repeated.  [default: all]",
)
@click.option(
    "--classifier",
    "classifiers",
    multiple=True,
    type=options.PartName("classifiers"),
    help="Classifier to study; may be repeated.  [default: all]",
)
@click.option(
    "--protocol",
    "chosen",
    multiple=True,
    type=click.Choice([*protocols.PROTOCOLS, protocols.GIVEN_GROUPS]),
    help="Way to split the images into folds; may be repeated.  [default: all, given_groups where there are groups]",
)
@options.conditions(augment=0)
@click.option(
    "--weights",
    multiple=True,
    callback=_by_backbone,
    metavar="[BACKBONE=]auto|random|FILE",
    help="Weights of all backbones, or of one; may be repeated.  [default: auto]",
)
@click.option(
    "--tap",
    "taps",
    multiple=True,
    callback=_by_backbone,
    metavar="[BACKBONE=]last|NAME",
    help="Layer that features are taken from; may be repeated.  [default: last, the paper's]",
)
@click.option(
    "--int8",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    metavar="N",
    help="Export the best pipeline of each of the N best backbones, with INT8.",
)
@click.option(
    "--address", metavar="HOST:PORT", help="Do the grid on this Ray cluster; auto is the one of this machine."
)
@click.option("--no-images", is_flag=True, help="Show no images of the data set in the report.")
def command(
    out: Path,
    backbones: tuple[str, ...],
    selectors: tuple[str, ...],
    classifiers: tuple[str, ...],
    chosen: tuple[str, ...],
    conditions: options.Conditions,
    weights: dict[str, str],
    taps: dict[str, str],
    int8: int,
    address: str | None,
    no_images: bool,
) -> None:
    """Compare the pipelines of the paper, and write a report.

    Every backbone is scored with every selector and every classifier under several ways to split the images. What is
    finished is kept: the same command continues where it was stopped. `edge-all export --from-study DIR` exports the
    best pipeline.
    """
    try:
        from edge_all.export.recipe import Conditions  # noqa: TID251 - the one door to the toolchain
        from edge_all.export.study import Settings, run  # noqa: TID251
    except ModuleNotFoundError as error:
        raise ToolchainError(f"study needs {error.name}, which is not installed: {install_hint('export')}") from None
    if address:
        check_extra(address)
    paper = ("inceptionv3", "resnet101", "vgg19", "densenet121", "mobilenetv2")
    settings = Settings(
        out=out,
        conditions=Conditions(**conditions),
        backbones=tuple(dict.fromkeys(backbones)) or paper,
        selectors=tuple(dict.fromkeys(selectors)) or tuple(options.PartName("selectors").choices()),
        classifiers=tuple(dict.fromkeys(classifiers)) or tuple(options.PartName("classifiers").choices()),
        protocols=tuple(dict.fromkeys(chosen)),
        weights=weights,
        taps=taps,
        int8=int8,
        images=not no_images,
        address=address,
    )
    run(settings, console())
    say(NOTICE, err=True)
    say(f"{out}")
