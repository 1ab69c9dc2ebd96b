"""What the report says, in order."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge_all import machine

from ...head import familiarity
from .. import audit, curves, deployed, table
from ..picks import Study
from ..table import Cell, Row
from . import examples, plots
from .blocks import PLOTS, Plot, Points, Section, Table, Text

_BEST = 15


def sections(study: Study) -> list[Section]:
    """All of it; the plots are drawn on the way."""
    return [
        _short(study),
        _what(study),
        _best(study),
        _audit(study),
        _grid(study),
        _confusion(study),
        _believable(study),
        _robust(study),
        _deployed(study),
        *_examples(study),
    ]


def _short(study: Study) -> Section:
    best, judged = study.own[0], study.own[0]["protocol"]
    near = [row for row in study.own if row["accuracy"] >= best["accuracy"] - best["accuracy_fold_std"]]
    fast = min(near, key=lambda row: (row["graph_ms"], -row["accuracy"]))
    points = [
        f"Best under {judged}: {_title(table.cell(best))}, {best['accuracy']:.2f} % of {len(study.data)} images, "
        f"{best['graph_ms']:.1f} ms. Its folds differ by {best['accuracy_fold_std']:.1f} points (standard deviation): "
        f"{len(near)} of {len(study.own)} pipelines are within that."
    ]
    if fast is not best:
        title = _title(table.cell(fast))
        points.append(f"The fastest of these: {title}, {fast['accuracy']:.2f} %, {fast['graph_ms']:.1f} ms.")
    points += [audit.colour_sentence(_read(study, audit.FILE), best), curves.sentence(_read(study, curves.FILE))]
    return Section("In short", [Points(points)])


def _what(study: Study) -> Section:
    asked, data, here = study.settings, study.data, machine.describe()
    options = {
        "features kept": asked.features or "300 (pca 32), or all where there are fewer",
        "copies of every training image": asked.augment,
        "smallest class alone augmented": asked.balance,
        "histogram equalised": asked.equalize,
        "corner masked": asked.mask_corner,
        "input": f"{asked.size[1]}x{asked.size[0]}" if asked.size else "each backbone's own",
        "seed": asked.seed,
    }
    said = "; ".join(f"{name}: {_yes(value)}" for name, value in options.items())
    sources = [
        [name, study.settings.tap(name), study.weights[name].source, study.weights[name].digest[:16]]
        for name in study.graphs
    ]
    counts = ", ".join(f"{name} {count}" for name, count in data.counts.items())
    return Section(
        "What was done",
        [
            Text(
                f"{len(data)} images ({counts}), fingerprint {data.fingerprint[:16]}. {len(study.cells)} cells: "
                "a pipeline of backbone, selector and classifier under a split protocol, five folds each. Scaling, "
                "selection and classifier are fitted inside the training folds; the classifier's setting is tuned "
                "on one fold of these, split off by the same protocol. Probabilities, where a classifier needs it "
                "(svm), are calibrated inside the training folds as well."
            ),
            Text(f"Options: {said}."),
            Table(["backbone", "tap", "weights", "digest"], sources, figures=4),
            Text(f"Machine: {here['cpu']}, {here['cores']} cores."),
            Points(
                [
                    "random: images at random; near-duplicates leak from training into test.",
                    "grouped: near-duplicates kept on one side.",
                    "block: contiguous runs of each class's files, the nearest to a split by slide. Read this one.",
                ]
            ),
        ],
    )


def _best(study: Study) -> Section:
    by_cell = {table.cell(row): row for row in study.cells}
    protocols = list(study.ground.splits)

    def line(number: int, row: Row) -> list[str]:
        own = table.cell(row)
        others = [by_cell.get(Cell(own.backbone, own.tap, own.selector, own.classifier, name)) for name in protocols]
        return [
            str(number), own.backbone, own.selector, own.classifier,
            *(f"{o['accuracy']:.2f}" if o else "-" for o in others),
            f"{row['accuracy_fold_std']:.2f}", f"{row['balanced_accuracy']:.2f}", f"{row['macro_f1']:.2f}",
            f"{row['auroc']:.4f}", f"{row['ece']:.3f}", f"{row['graph_ms']:.2f}", f"{row['fit_s']:.1f}",
        ]  # fmt: skip

    shown = [line(i, row) for i, row in enumerate(study.own[:_BEST], 1)]
    judged = study.own[0]["protocol"]
    columns = [
        "#", "backbone", "selector", "classifier", *protocols, "± folds", "balanced", "macro F1", "AUROC", "ECE",
        "graph ms", "fit s",
    ]  # fmt: skip
    path = study.settings.out / PLOTS / "plane.png"
    plots.plane(path, study.own, _read(study, deployed.FILE))
    winners = Text(
        f"The best {len(shown)} of {len(study.own)} pipelines under {judged}; accuracy in percent, then figures under "
        f"{judged}: standard deviation over the folds, balanced accuracy, macro F1, AUROC (one against the rest), "
        "expected calibration error, FP32 graph on OpenVINO, and seconds to fit all five folds. The winner was picked "
        "by these very figures, so its own is a little too high."
    )
    return Section(
        "Which pipelines are best",
        [
            winners,
            Table(columns, shown, figures=4),
            Plot("plane.png", "Accuracy against time; the line: none is better and faster."),
        ],
    )


def _audit(study: Study) -> Section:
    found = _read(study, audit.FILE)
    columns = ["baseline", *study.ground.splits]
    names = list(next(iter(found["colour"].values())))

    def row(title: str, figures: Mapping[str, float]) -> list[str]:
        return [title, *(f"{figures[name]:.2f}" for name in columns[1:])]

    lines = [row(f"six colour numbers, {n}", {p: own[n] for p, own in found["colour"].items()}) for n in names]
    lines.append(row("corner with the scale bar, nearest neighbour", found["corner"]))
    lines.append(["always the largest class", *[f"{found['largest_class']:.2f}"] * (len(columns) - 1)])
    lines.append(row("best pipeline, corner as it is", found["mask"]["before"]))
    lines.append(row("best pipeline, corner masked", found["mask"]["after"]))
    return Section(
        "What to read the scores beside",
        [Points(audit.sentences(found, study.own[0])), Table(columns, lines)],
    )


def _grid(study: Study) -> Section:
    accuracies = [row["accuracy"] for row in study.cells]
    span = (float(np.quantile(accuracies, 0.1)), max(accuracies))
    blocks: list[Any] = []
    for protocol in study.ground.splits:
        name = f"grid_{protocol}.png"
        plots.heat_map(study.settings.out / PLOTS / name, study.cells, protocol, span)
        blocks.append(Plot(name, f"Accuracy under {protocol}, percent."))
    names = list(study.settings.classifiers)
    for protocol in study.ground.splits:
        own = {(r["backbone"], r["selector"], r["classifier"]): r for r in study.cells if r["protocol"] == protocol}
        lines = [
            [backbone, selector, *(_spread(own.get((backbone, selector, name))) for name in names)]
            for backbone in study.graphs
            for selector in study.settings.selectors
        ]
        blocks += [Text(f"Under {protocol}, mean over the folds ± standard deviation:")]
        blocks += [Table(["backbone", "selector", *names], lines, figures=2)]
    return Section("The grid", blocks)


def _confusion(study: Study) -> Section:
    best = table.cell(study.own[0])
    answers = {
        protocol: table.answers(study.settings.out, Cell(*_parts(best), protocol)) for protocol in study.ground.splits
    }
    plots.confusion(study.settings.out / PLOTS / "confusion.png", study.data.labels, answers, study.data.classes)
    recalls = [
        [protocol, *(f"{row[f'recall_{name}']:.2f}" for name in study.data.classes)]
        for protocol in study.ground.splits
        for row in study.cells
        if table.cell(row) == Cell(*_parts(best), protocol)
    ]
    return Section(
        f"Where the best pipeline errs: {_title(best)}",
        [Plot("confusion.png", "Images, by what they are and what they are named."),
         Text("Recall of each class, percent:"), Table(["split", *study.data.classes], recalls)],
    )  # fmt: skip


def _believable(study: Study) -> Section:
    folder, labels = study.settings.out, study.data.labels
    chosen: dict[str, Cell] = {}
    for row in study.own:
        chosen.setdefault(row["classifier"], table.cell(row))
    answers = {_title(cell): table.answers(folder, cell) for cell in chosen.values()}
    plots.reliability(folder / PLOTS / "reliability.png", labels, answers)
    plots.risk_coverage(folder / PLOTS / "risk_coverage.png", labels, answers)
    rows = []
    for title, probabilities in answers.items():
        curve = familiarity.referral(labels, probabilities)["curve"]
        rows.append([title, *(f"{point['error']:.2f}" for point in curve)])
    coverages = [f"{share} %" for share in familiarity.COVERAGES]
    return Section(
        "Can its probabilities be believed",
        [
            Plot(
                "reliability.png",
                "The best pipeline of each classifier; dots by their share of the images, bins of fewer than "
                f"{plots.FEWEST} left out. Above the diagonal it is too modest, below it too sure.",
            ),
            Plot("risk_coverage.png", "Error among what is answered when the least sure are referred; 95 % is marked."),
            Text("Wrong among the answered, percent, by the share that is to be answered:"),
            Table(["pipeline", *coverages], rows),
        ],
    )


def _robust(study: Study) -> Section:
    found = _read(study, curves.FILE)
    plots.curves(study.settings.out / PLOTS / "curves.png", found, curves.HEADS)
    lost = [found["gains"][key] for key in curves.HEADS]
    rows = [[name, *(f"{own['changes'][name]:.2f}" for own in lost)] for name in lost[0]["changes"]]
    rows += [[name, *(f"{own[name]:.2f}" for own in lost)] for name in ("mean", "worst")]
    return Section(
        "Light, focus, turns, compression and scale",
        [
            Text(curves.sentence(found)),
            Plot("curves.png", f"Accuracy under {found['protocol']} on {found['images']} images, changed by so much."),
            Text("Points lost under a gain of 10 % on one channel:"),
            Table(["gain", "as it is", f"{found['copies']} copies in training"], rows),
        ],
    )


def _deployed(study: Study) -> Section:
    rows = []
    for one in _read(study, deployed.FILE):
        for target, ms in one["graph_ms"].items():
            for protocol, by_precision in one["metrics"].items():
                int8 = by_precision.get("int8", {}).get("targets", {}).get(target)
                rows.append(
                    [str(one["pick"]), one["pipeline"].rsplit("-", 1)[0], target, protocol,
                     f"{by_precision['fp32']['accuracy']:.2f}", f"{int8['accuracy']:.2f}" if int8 else "-",
                     f"{int8['agreement_fp32']:.2f}" if int8 else "-", _ms(ms["fp32"]), _ms(ms["int8"]),
                     "passed" if ms["passed"] else "refused: FP32 ships"]
                )  # fmt: skip
    if not rows:
        return Section("With INT8", [Text("No pipeline was exported (--int8 0).")])
    columns = ["pick", "pipeline", "target", "split", "FP32", "INT8", "same label", "FP32 ms", "INT8 ms", "gate"]
    return Section(
        "With INT8",
        [
            Text(
                "The whole pipeline, exported with the setting that most folds chose; no image judged by an INT8 graph "
                "that was calibrated on it. Accuracy and agreement in percent, the backbone's median in milliseconds."
            ),
            Table(columns, rows, figures=4),
            Text("`edge-all export --from-study DIR --pick N` makes the same bundle again."),
        ],
    )


def _examples(study: Study) -> Iterator[Section]:
    blocks = list(examples.blocks(study)) if study.settings.images else []
    if blocks:
        told = "What it is, what it was named, and the three nearest images of other folds, by the features it reads."
        yield Section("Its surest errors", [Text(told), *blocks])


def _read(study: Study, file: str) -> Any:
    return json.loads((study.settings.out / file).read_text())


def _parts(cell: Cell) -> Sequence[str]:
    return cell.backbone, cell.tap, cell.selector, cell.classifier


def _title(cell: Cell) -> str:
    return f"{cell.backbone}, {cell.selector}, {cell.classifier}"


def _spread(row: Row | None) -> str:
    return f"{row['accuracy_fold_mean']:.2f} ± {row['accuracy_fold_std']:.2f}" if row else "-"


def _yes(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _ms(value: float | None) -> str:
    return f"{value:.2f}" if value else "-"
