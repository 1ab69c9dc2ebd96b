"""``edge-all study``: the paper's grid, and what its figures are worth."""

from __future__ import annotations

from pathlib import Path

import click

from edge_all.cli import options
from edge_all.cli.export import PartName, image_size
from edge_all.cli.output import NOTICE, step


def _by_backbone(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """BACKBONE=VALUE by backbone; a value alone is for all of them."""
    known = PartName("backbones").choices()
    found: dict[str, str] = {}
    for value in values:
        name, equals, own = value.partition("=")
        if equals and name in known and own:
            found[name] = own
        elif equals:
            raise click.BadParameter(f"{value!r}: wanted BACKBONE=VALUE, BACKBONE one of {', '.join(known)}")
        else:
            found = dict.fromkeys(known, value) | found
    return found


@click.command("study")
@click.option("--data", type=options.PATH, help="One folder of images a class.  [default: the Kaggle set, downloaded]")
@click.option("--out", type=options.PATH, default=Path("studies/paper"), show_default=True, help="The study's folder.")
@click.option("--backbone", "backbones", multiple=True, type=PartName("backbones"), help="[default: the paper's five]")
@click.option("--selector", "selectors", multiple=True, type=PartName("selectors"), help="[default: all]")
@click.option("--classifier", "classifiers", multiple=True, type=PartName("classifiers"), help="[default: all]")
@click.option(
    "--protocol", "protocols", multiple=True, type=click.Choice(["random", "grouped", "block"]), help="[default: all]"
)
@click.option(
    "--weights",
    multiple=True,
    callback=_by_backbone,
    metavar="[BACKBONE=]auto|random|FILE",
    help="Of all backbones, or of one; may be repeated.  [default: auto]",
)
@click.option(
    "--tap",
    "taps",
    multiple=True,
    callback=_by_backbone,
    metavar="[BACKBONE=]last|NAME",
    help="Where features are taken; may be repeated.  [default: last, the paper's]",
)
@click.option("--features", type=click.IntRange(min=1), metavar="K", help="Features to keep.  [default: 300; pca 32]")
@click.option("--augment", type=click.IntRange(0, 20), default=0, show_default=True, metavar="N", help="As in export.")
@click.option("--balance", is_flag=True, help="Augment the smallest class alone, as the paper does.")
@click.option("--resize", callback=image_size, metavar="WxH", help="Input size, such as the paper's 320x240.")
@click.option("--equalize", is_flag=True, help="Equalise the histogram, as the paper does.")
@click.option("--mask-corner", is_flag=True, help="Paint the corner with the scale bar grey.")
@click.option(
    "--int8",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    metavar="N",
    help="Export the best N pipelines, one a backbone, with INT8.",
)
@click.option("--no-images", is_flag=True, help="Show no images of the data set in the report.")
@click.option("--seed", default=0, show_default=True, help="Of every random choice.")
def command(
    data: Path | None,
    out: Path,
    backbones: tuple[str, ...],
    selectors: tuple[str, ...],
    classifiers: tuple[str, ...],
    protocols: tuple[str, ...],
    weights: dict[str, str],
    taps: dict[str, str],
    features: int | None,
    augment: int,
    balance: bool,
    resize: tuple[int, int] | None,
    equalize: bool,
    mask_corner: bool,
    int8: int,
    no_images: bool,
    seed: int,
) -> None:
    """Score every backbone with every selector and classifier under several splits, and write a report.

    Each finished cell is kept: the same command again goes on where it was stopped. `edge-all export --from-study DIR`
    exports the winner.
    """
    from edge_all.errors import ToolchainError

    try:
        from edge_all.export.study import Settings, run  # noqa: TID251 - the one door to the toolchain
    except ModuleNotFoundError as error:
        raise ToolchainError(f'study needs {error.name}, which is not here: pip install "edge-all[export]"') from None
    paper = ("inceptionv3", "resnet101", "vgg19", "densenet121", "mobilenetv2")
    settings = Settings(
        out=out,
        data=data,
        backbones=tuple(dict.fromkeys(backbones)) or paper,
        selectors=tuple(dict.fromkeys(selectors)) or tuple(PartName("selectors").choices()),
        classifiers=tuple(dict.fromkeys(classifiers)) or tuple(PartName("classifiers").choices()),
        protocols=tuple(dict.fromkeys(protocols)) or ("random", "grouped", "block"),
        weights=weights,
        taps=taps,
        features=features,
        augment=augment,
        balance=balance,
        size=resize,
        equalize=equalize,
        mask_corner=mask_corner,
        int8=int8,
        images=not no_images,
        seed=seed,
    )
    run(settings, step=step, tell=lambda line: click.echo(f"edge-all: {line}", err=True))
    click.echo(NOTICE, err=True)
    click.echo(f"{out}")
