"""The report's sections about calibrated probabilities and about changes of light, focus and scale."""

from __future__ import annotations

from ...head import familiarity
from .. import table
from ..curves import TRAININGS, Curves
from ..table import Cell
from . import plots
from .blocks import Plot, Section, Table, Text
from .results import Results


def probabilities(results: Results) -> Section:
    """The best pipeline of each classifier: calibration, and what is gained by referring images."""
    study = results.study
    folder, labels = study.settings.out, study.data.labels
    best: dict[str, Cell] = {}
    for row in study.ranked:
        best.setdefault(row.cell.classifier, row.cell)
    by_title = {cell.title: table.probabilities(folder, cell) for cell in best.values()}
    plots.reliability(results.plot("reliability.png"), labels, by_title)
    plots.risk_coverage(results.plot("risk_coverage.png"), labels, by_title)
    lines = [
        [title, *(f"{point['error']:.2f}" for point in familiarity.referral(labels, of_images)["curve"])]
        for title, of_images in by_title.items()
    ]
    return Section(
        "Are the probabilities well calibrated?",
        [
            Plot(
                "reliability.png",
                "The best pipeline of each classifier. The area of a dot shows its share of the images; bins of fewer "
                f"than {plots.LEAST_IN_BIN} images are left out. Above the diagonal a pipeline is more often right "
                "than its probability says, below it less often.",
            ),
            Plot(
                "risk_coverage.png",
                "Errors among the answers when the least certain images are referred. The grey line marks "
                f"{familiarity.COVERAGE:g} % answered.",
            ),
            Text("Wrong among the answers, percent, by the share of images that is to be answered:"),
            Table(["pipeline", *(f"{share} %" for share in familiarity.COVERAGES)], lines),
        ],
    )


def robustness(results: Results) -> Section:
    """The best pipeline on changed images, with and without changed copies in training."""
    curves = results.curves
    plots.curves(results.plot("curves.png"), curves)
    losses = [curves["gains"][training] for training in TRAININGS]
    lines = [[name, *(f"{loss['changes'][name]:.2f}" for loss in losses)] for name in losses[0]["changes"]]
    lines.append(["mean", *(f"{loss['mean']:.2f}" for loss in losses)])
    lines.append(["worst", *(f"{loss['worst']:.2f}" for loss in losses)])
    caption = f"Accuracy under {curves['protocol']} on {curves['images']} images, by kind and level of change."
    return Section(
        "Light, focus, rotation, compression and scale",
        [
            Text(gain_sentence(curves)),
            Plot("curves.png", caption),
            Text("Points lost under a gain of 10 % on one channel, by what the pipeline was trained on:"),
            Table(["gain", "images as they are", f"and {curves['copies']} changed copies"], lines),
        ],
    )


def gain_sentence(curves: Curves) -> str:
    """What a gain of 10 % on one channel costs, and whether changed copies help."""
    plain, augmented = curves["gains"]["plain"], curves["gains"]["augmented"]
    return (
        f"A gain of 10 % on one channel costs the pipeline {plain['mean']:.2f} points on average and "
        f"{plain['worst']:.2f} at worst; with {curves['copies']} changed copies of every training image "
        f"{augmented['mean']:.2f} and {augmented['worst']:.2f} ({curves['images']} images, {curves['protocol']}). "
        + ("Train with --augment." if augmented["mean"] < plain["mean"] else "Copies do not help this pipeline here.")
    )
