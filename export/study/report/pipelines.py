"""The report's sections about accuracy: the best pipelines, the whole grid, the errors, and INT8."""

from __future__ import annotations

from edge_all import intervals
from edge_all.record import Score

from .. import table
from ..table import Row
from . import plots
from .blocks import Block, Plot, Section, Table, Text
from .results import Results

_BEST = 15


def best(results: Results) -> Section:
    """The best pipelines, under all protocols, and all pipelines on the plane of accuracy and time."""
    study = results.study
    ranked, protocol = study.ranked, study.best.cell.protocol
    accuracy = {row.cell: f"{row.scores.accuracy:.2f}" for row in study.cells}
    protocols = list(study.inputs.splits)

    def line(number: int, row: Row) -> list[str]:
        cell, scores = row.cell, row.scores
        return [
            str(number), cell.backbone, cell.selector, cell.classifier,
            *(accuracy.get(cell.under(name), "-") for name in protocols), interval(row), _behind(row),
            f"{scores.accuracy_fold_std:.2f}", f"{scores.balanced_accuracy:.2f}", f"{scores.macro_f1:.2f}",
            f"{scores.auroc:.4f}", f"{scores.ece:.3f}", f"{row.graph_ms:.2f}", f"{row.fit_s:.1f}",
        ]  # fmt: skip

    lines = [line(i, row) for i, row in enumerate(ranked[:_BEST], 1)]
    columns = [
        "#", "backbone", "selector", "classifier", *protocols, "95 %", "behind", "± folds", "balanced", "macro F1",
        "AUROC", "ECE", "graph ms", "fit s",
    ]  # fmt: skip
    plots.plane(results.plot("plane.png"), ranked, results.deployed)
    text = (
        f"The best {len(lines)} of {len(ranked)} pipelines under {protocol}: accuracy in percent under each protocol, "
        f"then under {protocol} its 95 % interval, how many points it is behind the best (a 95 % interval, or = where "
        "the images do not tell the two apart, so that they are not to be ranked), the standard deviation over the "
        "folds, balanced accuracy, macro F1, AUROC (each class against the rest), expected calibration error, the "
        "median time of the FP32 graph on OpenVINO, and the seconds to fit all five folds. The intervals are of a "
        "bootstrap over groups of near-duplicates, and paired where two pipelines are compared. The best pipeline was "
        "chosen by these same figures, so its accuracy is slightly too high."
    )
    caption = "Accuracy against time. No pipeline is both better and faster than those on the line."
    return Section(
        "Which pipelines are best", [Text(text), Table(columns, lines, figures=4), Plot("plane.png", caption)]
    )


def grid(results: Results) -> Section:
    """Every pipeline under every protocol."""
    study = results.study
    accuracies = [row.scores.accuracy for row in study.cells]
    span = min(accuracies), max(accuracies)
    blocks: list[Block] = []
    for protocol in study.inputs.splits:
        name = f"grid_{protocol}.png"
        plots.heat_map(results.plot(name), study.cells, protocol, span)
        blocks.append(Plot(name, f"Accuracy under {protocol}, percent."))
    classifiers = list(study.settings.classifiers)
    for protocol in study.inputs.splits:
        rows = {
            (row.cell.backbone, row.cell.selector, row.cell.classifier): row
            for row in study.cells
            if row.cell.protocol == protocol
        }
        lines = [
            [backbone, selector, *(_mean_and_std(rows.get((backbone, selector, name))) for name in classifiers)]
            for backbone in study.graphs
            for selector in study.settings.selectors
        ]
        blocks.append(Text(f"Under {protocol}: accuracy in percent, mean over the folds ± standard deviation."))
        blocks.append(Table(["backbone", "selector", *classifiers], lines, figures=2))
    return Section("The grid", blocks)


def errors(results: Results) -> Section:
    """Which classes the best pipeline confuses."""
    study = results.study
    cell, data = study.best.cell, study.data
    cells = {protocol: cell.under(protocol) for protocol in study.inputs.splits}
    recall = {row.cell: row.scores.recall for row in study.cells}
    finished = {protocol: cell for protocol, cell in cells.items() if cell in recall}
    probabilities = {protocol: table.probabilities(study.settings.out, cell) for protocol, cell in finished.items()}
    plots.confusion(results.plot("confusion.png"), data.labels, probabilities, data.classes)
    lines = [[protocol, *(f"{recall[cell][name]:.2f}" for name in data.classes)] for protocol, cell in finished.items()]
    return Section(
        f"Errors of the best pipeline: {cell.title}",
        [
            Plot("confusion.png", "Number of images by true class and predicted class."),
            Text("Recall of each class, percent:"),
            Table(["split", *data.classes], lines),
        ],
    )


def int8(results: Results) -> Section:
    """The exported pipelines: FP32 beside INT8, and what the gate decided."""
    lines = []
    for exported in results.deployed:
        for target, times in exported["graph_ms"].items():
            for protocol, metrics in exported["metrics"].items():
                score = metrics["int8"]["targets"].get(target) if "int8" in metrics else None
                lines.append(
                    [str(exported["pick"]), exported["pipeline"].rsplit("-", 1)[0], target, protocol,
                     _with_interval(metrics["fp32"]), _with_interval(score),
                     f"{score['agreement_fp32']:.2f}" if score else "-", _ms(times["fp32"]), _ms(times["int8"]),
                     "passed" if times["passed"] else "refused: FP32 ships"]
                )  # fmt: skip
    if not lines:
        return Section("With INT8", [Text("No pipeline was exported (--int8 0).")])
    columns = ["pick", "pipeline", "target", "split", "FP32", "INT8", "same label", "FP32 ms", "INT8 ms", "gate"]
    text = (
        "The whole pipeline, exported with the setting that most folds chose. No image is evaluated by an INT8 graph "
        "that was calibrated on it. Accuracy and agreement with FP32 in percent; median time of the backbone in "
        "milliseconds."
    )
    again = "`edge-all export --from-study DIR --pick N` makes the same bundle again."
    return Section("With INT8", [Text(text), Table(columns, lines, figures=4), Text(again)])


def interval(row: Row) -> str:
    """The 95 % interval of a pipeline's accuracy, such as "97.91-98.80"."""
    return intervals.words(row.error.accuracy, 2) if row.error else "-"


def _behind(row: Row) -> str:
    """How far a pipeline is behind the best one, or that it is not told from it."""
    if row.error is None:
        return "-"
    return "=" if row.tied else f"{row.error.behind[0]:.2f} to {row.error.behind[1]:.2f}"


def _with_interval(score: Score | None) -> str:
    if score is None:
        return "-"
    error = f" ({intervals.words(score['intervals']['accuracy'])})" if "intervals" in score else ""
    return f"{score['accuracy']:.2f}{error}"


def _mean_and_std(row: Row | None) -> str:
    return f"{row.scores.accuracy_fold_mean:.2f} ± {row.scores.accuracy_fold_std:.2f}" if row else "-"


def _ms(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"
