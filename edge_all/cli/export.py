"""``edge-all export``: from labelled images to a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_all import NOTICE, protocols
from edge_all.cli import options, scores
from edge_all.cli.output import console, json_text, say, tell
from edge_all.errors import GateError, ToolchainError, install_hint

if TYPE_CHECKING:
    from edge_all.bundle import Bundle
    from edge_all.export.recipe import Recipe  # noqa: TID251


@click.command("export")
@click.option(
    "--backbone", type=options.PartName("backbones"), help="Pretrained CNN that computes the features.  [required]"
)
@click.option(
    "--selector",
    default="anova",
    show_default=True,
    type=options.PartName("selectors"),
    help="How the features to keep are selected.",
)
@click.option(
    "--classifier",
    default="svm",
    show_default=True,
    type=options.PartName("classifiers"),
    help="What names the class from the selected features.",
)
@options.conditions(augment=4)
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="auto|random|FILE",
    help="Weights of the backbone; auto downloads its publisher's.",
)
@click.option(
    "--tap",
    default="auto",
    show_default=True,
    metavar="auto|last|NAME",
    help="Layer of the backbone that features are taken from: auto compares all, at smaller inputs too; last is the "
    "paper's.",
)
@click.option(
    "--prefer",
    type=click.Choice(["speed", "balanced", "accuracy", "transfer"]),
    default="balanced",
    show_default=True,
    help="What matters most when --tap auto chooses.",
)
@click.option(
    "--report", type=options.PATH, metavar="DIR", help="Folder for a table and a plot of what --tap auto compared."
)
@click.option(
    "--target",
    "targets",
    type=click.Choice(options.TARGETS),
    multiple=True,
    help="Make the bundle for this target; may be repeated.  [default: cpu, openvino]",
)
@click.option("--out", type=options.PATH, metavar="PATH", help="Folder or .zip of the bundle.  [default: models/NAME]")
@click.option(
    "--effort",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="quick takes the first INT8 scheme that passes the gate; full tries all and takes the fastest that passes.",
)
@click.option("--scheme", metavar="NAME", help="Try this INT8 scheme only, such as layerwise-8bit.")
@click.option("--recipe", "recipe_option", metavar="NAME", hidden=True)  # --scheme under an earlier name
@click.option(
    "--strict",
    is_flag=True,
    help="Exit with 3 if the gate refuses INT8 for a target, or pictures that are no fields are answered with ok.",
)
@click.option(
    "--hold-out",
    is_flag=True,
    help="Also make all of it from four fifths of the images, and measure it on the others. Where --data holds test/, "
    "these are measured on anyway.",
)
@click.option(
    "--refit/--no-refit",
    default=True,
    show_default=True,
    help="With --hold-out: ship what is fitted on all images, or the measured one, fitted on four fifths.",
)
@click.option(
    "--scale",
    type=click.FloatRange(min=0, min_open=True),
    metavar="UM",
    help="Micrometres that a pixel shows, once the images have the backbone's own input size, or that of --resize.",
)
@click.option(
    "--cell",
    type=click.FloatRange(min=1),
    metavar="PX",
    help="Instead of --scale: how many of these pixels a red cell (7.5 um) is across.",
)
@click.option("--source", default="", metavar="TEXT", help="Where the images come from, for the model card.")
@click.option("--drawn-probe", is_flag=True, help="Put drawn images into the bundle's probe, and none of the data set.")
@click.option(
    "--positive",
    multiple=True,
    metavar="CLASS",
    help="A class that counts as positive, such as a disease, for sensitivity and specificity; may be repeated.",
)
@click.option(
    "--sensitivity",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="With --positive: refer as many images as it takes for this share of the positive ones to be called positive, "
    "referred or unfamiliar.  [default: 95 % of all images are answered]",
)
@click.option(
    "--carry",
    metavar="TAP",
    help="Also carry an INT8 backbone up to this deeper tap, such as blocks.5.3:std, for edge-all adapt --fresh.",
)
@click.option(
    "--no-adapt", is_flag=True, help="Keep no features of the training images in the bundle: edge-all adapt needs them."
)
@click.option(
    "--from-study", "study", type=options.PATH, metavar="DIR", help="Export the best pipeline of this study folder."
)
@click.option(
    "--pick",
    type=click.IntRange(1),
    metavar="N",
    help="With --from-study: the place in the ranking of the pipeline to export.  [default: 1]",
)
@options.sign
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    backbone: str | None,
    selector: str,
    classifier: str,
    conditions: options.Conditions,
    weights: str,
    tap: str,
    prefer: str,
    report: Path | None,
    targets: tuple[str, ...],
    out: Path | None,
    effort: str,
    scheme: str | None,
    recipe_option: str | None,
    strict: bool,
    hold_out: bool,
    refit: bool,
    scale: float | None,
    cell: float | None,
    source: str,
    drawn_probe: bool,
    positive: tuple[str, ...],
    sensitivity: float | None,
    carry: str | None,
    no_adapt: bool,
    study: Path | None,
    pick: int | None,
    sign: Path | None,
    as_json: bool,
) -> None:
    """Make a bundle from labelled images.

    A classifier is trained on features of the backbone, both are joined in one graph, and the graph is quantized. A
    gate checks that the quantized graph gives the same labels; where it does not, the bundle holds FP32.
    """
    if study is None and pick is not None:
        raise click.UsageError(f"--pick {pick} is a place in a study's ranking: give --from-study DIR too")
    if study is None and backbone is None:
        raise click.UsageError(
            "wanted --backbone NAME, or --from-study DIR to export the best pipeline of an edge-all study"
        )
    if study and (decided := _first_on_line(ctx, _BY_STUDY)):
        raise click.UsageError(f"--from-study {study} decides {decided}: leave it out, or leave --from-study out")
    if report and (study or tap != "auto"):
        raise click.UsageError(f"--report {report} shows what --tap auto compared, and nothing is compared here")
    _check_needed(ctx)
    um_per_px = options.um_per_px(scale, cell)
    signer = options.signer(sign) if sign else None
    try:
        from edge_all.export.pipeline import export  # noqa: TID251 - the one door to the toolchain
        from edge_all.export.recipe import Conditions, Recipe  # noqa: TID251
    except ModuleNotFoundError as error:
        raise ToolchainError(f"export needs {error.name}, which is not installed: {install_hint('export')}") from None
    if study:
        recipe = _of_study(ctx, study, pick or 1)
    else:
        assert backbone is not None
        recipe = Recipe(
            backbone=backbone,
            selector=selector,
            classifier=classifier,
            conditions=Conditions(**conditions),
            weights=weights,
            tap=tap,
            prefer=prefer,
            report=report,
        )
    recipe = replace(
        recipe,
        targets=targets or ("cpu", "openvino"),
        out=out,
        hold_out=hold_out,
        refit=refit,
        scale=um_per_px,
        source=source,
        scheme=scheme or recipe_option,
        thorough=effort == "full",
        drawn_probe=drawn_probe,
        positive=positive,
        sensitivity=sensitivity,
        carry=carry,
        keep_features=not no_adapt,
    )
    bundle = export(recipe, console(), signer)
    if as_json:
        say(json_text(_summary(bundle)))
    else:
        _print(bundle)
    refused = [target for target, verdict in bundle.record["gate"]["targets"].items() if not verdict["passed"]]
    if strict and refused:
        raise GateError(
            f"the gate refused INT8 for {', '.join(refused)}, and --strict was given: {bundle.path} holds FP32 there; "
            "look at its MODEL_CARD.md, and try --effort full or another --tap"
        )
    strangers = bundle.record.get("outsiders")
    if strict and strangers and not strangers["passed"]:
        raise GateError(
            f"the gate refused {bundle.path}, for it answers pictures that are no fields with ok, and --strict was "
            "given: look at its MODEL_CARD.md, and try another --tap"
        )


def _check_needed(ctx: click.Context) -> None:
    """Some options say nothing without another."""
    given = ctx.params
    if not (given["refit"] or given["hold_out"]):
        raise click.UsageError("--no-refit ships what --hold-out measures: give --hold-out too, or leave it out")
    if given["sensitivity"] is not None and not given["positive"]:
        raise click.UsageError(
            f"--sensitivity {given['sensitivity']:g} is that of the positive classes: give --positive CLASS too"
        )


_BY_STUDY = (
    *("backbone", "selector", "classifier", "tap", "prefer", "augment", "features"),
    *("resize", "equalize", "mask_corner", "balance", "seed", "groups"),
)
"""Options that the study decides."""


def _of_study(ctx: click.Context, study: Path, number: int) -> Recipe:
    """The recipe of a study's pipeline; data and weights that have moved since can be given."""
    from edge_all.export.study import picks  # noqa: TID251

    pick = picks.pick(study, number)
    tell(pick.sentence())
    recipe = pick.recipe()
    for name in ("data", "labels"):
        if _first_on_line(ctx, (name,)):
            recipe = replace(recipe, conditions=replace(recipe.conditions, **{name: ctx.params[name]}))
    if _first_on_line(ctx, ("weights",)):
        recipe = replace(recipe, weights=ctx.params["weights"])
    return recipe


def _first_on_line(ctx: click.Context, names: Sequence[str]) -> str:
    """The first of these options that was given on the command line, or nothing."""
    on_line = click.core.ParameterSource.COMMANDLINE
    return next((f"--{name.replace('_', '-')}" for name in names if ctx.get_parameter_source(name) is on_line), "")


def _summary(bundle: Bundle) -> dict[str, object]:
    """What ``--json`` prints."""
    record = bundle.record
    return {
        "bundle": str(bundle.path),
        "backbone": record["backbone"],
        "tap": record["tap"],
        "selector": record["selector"],
        "classifier": record["classifier"],
        "features": record["features"],
        "classes": record["classes"],
        "positive": record.get("positive"),
        "metrics": record["metrics"],
        "robustness": record["robustness"],
        "referral": record["referral"],
        "gate": record["gate"],
        "outsiders": record["outsiders"],
        "held_out": record["held_out"],
    }


def _advice(measured: Iterable[str]) -> str:
    """Which split to read, and why."""
    name = protocols.headline(measured)
    why = {
        "block": "it keeps neighbouring files together, the nearest thing to a split by slide if they are numbered as "
        "taken. If you know patients or slides, name them with --groups",
        protocols.GIVEN_GROUPS: "it keeps the images of a group (a patient or a slide) on one side",
    }
    return f"Read `{name}`: {why[name]}."


def _print(bundle: Bundle) -> None:
    scores.show(bundle.record)
    for line in (
        *scores.remarks(bundle.record),
        _advice(bundle.record["metrics"]),
        NOTICE,
    ):
        say(line, err=True)
    say(f"{bundle.path}")
