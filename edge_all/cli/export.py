"""``edge-all export``: from a folder of smears to a bundle."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_all.cli import options
from edge_all.cli.output import step

if TYPE_CHECKING:
    from edge_all.bundle import Bundle


class PartName(click.ParamType[str]):
    """The name of a file in one of the toolchain's folders: one new part is one new file.

    The folder is listed without importing anything, so that ``--help`` stays quick and works without the toolchain.
    """

    def __init__(self, folder: str) -> None:
        self.name = self.folder = folder

    def choices(self) -> list[str]:
        spec = importlib.util.find_spec("edge_all.export")
        paths = [str(Path(path, self.folder)) for path in (spec and spec.submodule_search_locations) or ()]
        return [module.name for module in pkgutil.iter_modules(paths)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.choices())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices():
            self.fail(f"{value!r} is not one of {', '.join(self.choices())}.", param, ctx)
        return str(value)


def image_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Height and width from "WIDTHxHEIGHT"."""
    if value is None:
        return None
    width, _, height = value.partition("x")
    if not (width.isdigit() and height.isdigit() and 32 <= int(width) <= 2048 and 32 <= int(height) <= 2048):
        raise click.BadParameter(f"{value!r}: wanted WIDTHxHEIGHT in pixels, each from 32 to 2048, such as 320x240")
    return int(height), int(width)


@click.command("export")
@click.option("--backbone", type=PartName("backbones"), help="Pretrained CNN that gives the features.  [required]")
@click.option("--selector", default="anova", show_default=True, type=PartName("selectors"))
@click.option("--classifier", default="svm", show_default=True, type=PartName("classifiers"))
@click.option("--data", type=options.PATH, help="One folder of images a class.  [default: the Kaggle set, downloaded]")
@click.option("--weights", default="auto", show_default=True, metavar="auto|random|FILE", help="Of the backbone.")
@click.option(
    "--tap",
    default="auto",
    show_default=True,
    metavar="auto|last|NAME",
    help="Where features are taken: auto compares all places, last is the paper's.",
)
@click.option(
    "--prefer",
    type=click.Choice(["speed", "balanced", "accuracy"]),
    default="balanced",
    show_default=True,
    help="What --tap auto looks for.",
)
@click.option(
    "--augment",
    type=click.IntRange(0, 20),
    default=3,
    show_default=True,
    metavar="N",
    help="Changed copies of every training image for the head: turned, tinted, dimmed, blurred.",
)
@click.option("--features", type=click.IntRange(min=1), metavar="K", help="Features to keep.  [default: 300; pca 32]")
@click.option("--target", "targets", type=click.Choice(options.TARGETS), multiple=True, help="[default: cpu, openvino]")
@click.option("--out", type=options.PATH, help="Folder or .zip of the bundle.  [default: models/NAME]")
@click.option("--resize", callback=image_size, metavar="WxH", help="Input size, such as the paper's 320x240.")
@click.option("--equalize", is_flag=True, help="Equalise the histogram inside the graph, as the paper does.")
@click.option("--mask-corner", is_flag=True, help="Paint the corner with the scale bar grey, inside the graph.")
@click.option("--balance", is_flag=True, help="Changed copies of the smallest class alone, up to the largest's size.")
@click.option(
    "--hold-out", is_flag=True, help="Keep a fifth of the images out, and measure the finished bundle on them."
)
@click.option("--recipe", "scheme", metavar="NAME", help="Try this INT8 scheme only, such as layerwise-8bit.")
@click.option(
    "--effort",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="Take the first INT8 scheme that passes the gate, or try all and take the fastest.",
)
@click.option("--strict", is_flag=True, help="Exit with 3 where the gate refused INT8 for a target.")
@click.option("--source", default="", metavar="TEXT", help="Where the images come from, for the model card.")
@click.option("--drawn-probe", is_flag=True, help="Put drawn images into the probe, none of the data set.")
@click.option("--seed", default=0, show_default=True, help="Of every random choice.")
@click.option("--report", type=options.PATH, metavar="DIR", help="Write the tap table and its plot there (--tap auto).")
@click.option("--from-study", "study", type=options.PATH, metavar="DIR", help="Of edge-all study: its winner.")
@click.option("--pick", type=click.IntRange(1), metavar="N", help="Another place in the study's ranking.  [default: 1]")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    backbone: str | None,
    selector: str,
    classifier: str,
    data: Path | None,
    weights: str,
    tap: str,
    prefer: str,
    augment: int,
    features: int | None,
    targets: tuple[str, ...],
    out: Path | None,
    resize: tuple[int, int] | None,
    equalize: bool,
    mask_corner: bool,
    balance: bool,
    hold_out: bool,
    scheme: str | None,
    effort: str,
    strict: bool,
    source: str,
    drawn_probe: bool,
    seed: int,
    report: Path | None,
    study: Path | None,
    pick: int | None,
    as_json: bool,
) -> None:
    """Train a head on a backbone's features, fuse both into one graph, quantize it, and write a bundle."""
    from edge_all.errors import GateError, ToolchainError

    if study is None and pick is not None:
        raise click.UsageError(f"--pick {pick} is a place in a study's ranking: give --from-study DIR too")
    if study is None and backbone is None:
        raise click.UsageError(
            "wanted --backbone NAME, or --from-study DIR to export what an edge-all study found best"
        )
    if study and (own := _given(ctx, _BY_STUDY)):
        raise click.UsageError(f"--from-study {study} decides {own}: leave it out, or leave --from-study out")
    if report and (study or tap != "auto"):
        raise click.UsageError(f"--report {report} shows what --tap auto compared, and nothing is compared here")
    try:
        from edge_all.export.pipeline import export  # noqa: TID251 - the one door to the toolchain
        from edge_all.export.recipe import Recipe  # noqa: TID251
        from edge_all.export.study import picks  # noqa: TID251
    except ModuleNotFoundError as error:
        raise ToolchainError(f'export needs {error.name}, which is not here: pip install "edge-all[export]"') from None
    asked = {
        "targets": targets or ("cpu", "openvino"),
        "out": out,
        "hold_out": hold_out,
        "source": source,
        "scheme": scheme,
        "thorough": effort == "full",
        "drawn_probe": drawn_probe,
    }
    if study:
        chosen = picks.pick(study, pick or 1)
        moved = {name: value for name, value in (("data", data), ("weights", weights)) if _given(ctx, (name,))}
        recipe = chosen.recipe(**asked, **moved)
        click.echo(f"edge-all: {chosen.sentence()}", err=True)
    else:
        assert backbone is not None
        recipe = Recipe(
            backbone=backbone,
            selector=selector,
            classifier=classifier,
            data=data,
            weights=weights,
            tap=tap,
            prefer=prefer,
            augment=augment,
            report=report,
            features=features,
            seed=seed,
            balance=balance,
            equalize=equalize,
            mask_corner=mask_corner,
            size=resize,
            **asked,
        )
    bundle = export(recipe, step=step, tell=lambda line: click.echo(f"edge-all: {line}", err=True))
    if as_json:
        click.echo(json.dumps(_summary(bundle), ensure_ascii=False))
    else:
        _print(bundle)
    refused = [target for target, verdict in bundle.record["gate"]["targets"].items() if not verdict["passed"]]
    if strict and refused:
        raise GateError(
            f"the gate refused INT8 for {', '.join(refused)}, and --strict was given: {bundle.path} holds FP32 there; "
            "look at its MODEL_CARD.md, and try --effort full or another --tap"
        )


_BY_STUDY = (
    *("backbone", "selector", "classifier", "tap", "prefer", "augment", "features"),
    *("resize", "equalize", "mask_corner", "balance", "seed"),
)


def _given(ctx: click.Context, names: Sequence[str]) -> str:
    """The first of these options that was given on the command line, or nothing."""
    on_line = click.core.ParameterSource.COMMANDLINE
    found = (name for name in names if ctx.get_parameter_source(name) is on_line)
    return next((f"--{name.replace('_', '-')}" for name in found), "")


def _summary(bundle: Bundle) -> dict[str, object]:
    keys = (
        "backbone",
        "tap",
        "selector",
        "classifier",
        "features",
        "classes",
        "metrics",
        "robustness",
        "gate",
        "held_out",
    )
    return {"bundle": str(bundle.path)} | {key: bundle.record[key] for key in keys}


def _print(bundle: Bundle) -> None:
    from edge_all.cli.output import NOTICE, print_table

    rows = []
    for protocol, scores in bundle.record["metrics"].items():
        named = {precision: scores[precision] for precision in ("fp32", "fp16") if precision in scores}
        named |= {f"int8 {target}": figures for target, figures in scores.get("int8", {}).get("targets", {}).items()}
        for precision, figures in named.items():
            same = f"{figures['agreement_fp32']:.1f}" if "agreement_fp32" in figures else "-"
            rows.append(
                [protocol, precision, f"{figures['accuracy']:.1f}", f"{figures['balanced_accuracy']:.1f}", same]
            )
    print_table(["split", "precision", "acc %", "bal %", "=fp32 %"], rows, right=["acc %", "bal %", "=fp32 %"])
    click.echo("Read `block`: it keeps neighbouring files together, the nearest thing to a split by slide.", err=True)
    click.echo(NOTICE, err=True)
    click.echo(f"{bundle.path}")
