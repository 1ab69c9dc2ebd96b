"""The sections of the report, in order."""

from __future__ import annotations

from collections.abc import Iterator

from edge_all import machine, protocols

from . import baselines, examples, pipelines, reliability
from .blocks import Points, Section, Table, Text
from .results import Results


def sections(results: Results) -> list[Section]:
    """All sections; their plots are drawn on the way."""
    return [
        _short(results),
        _what(results),
        pipelines.best(results),
        baselines.section(results),
        pipelines.grid(results),
        pipelines.errors(results),
        reliability.probabilities(results),
        reliability.robustness(results),
        pipelines.int8(results),
        *_examples(results),
    ]


def _short(results: Results) -> Section:
    study = results.study
    ranked, best = study.ranked, study.best
    scores = best.scores
    near = [row for row in ranked if row.tied or row is best]
    fastest = min(near, key=lambda row: (row.graph_ms or 0.0, -row.scores.accuracy))
    points = [
        f"Best under {best.cell.protocol}: {best.cell.title}. It labels {scores.accuracy:.2f} % of {len(study.data)} "
        f"images correctly (95 % interval {pipelines.interval(best)}) and takes {best.graph_ms:.1f} ms an image. "
        f"Between folds its accuracy varies by {scores.accuracy_fold_std:.1f} points (standard deviation). {len(near)} "
        f"of {len(ranked)} pipelines, with it, are not told apart by these images: do not rank them."
    ]
    if fastest is not best:
        points.append(
            f"The fastest of these: {fastest.cell.title}, {fastest.scores.accuracy:.2f} %, {fastest.graph_ms:.1f} ms."
        )
    points += [baselines.colour_sentence(results.audit, best), reliability.gain_sentence(results.curves)]
    return Section("In short", [Points(points)])


def _what(results: Results) -> Section:
    study = results.study
    settings, data, here = study.settings, study.data, machine.describe()
    best = protocols.headline(study.inputs.splits)
    conditions = settings.conditions
    options = {
        "features kept": str(conditions.features or "300 (pca: 32), or all where there are fewer"),
        "changed copies of every training image": str(conditions.augment),
        "copies of the smallest class only": _yes(conditions.balance),
        "histogram equalized": _yes(conditions.equalize),
        "corner masked": _yes(conditions.mask_corner),
        "input": f"{conditions.size[1]}x{conditions.size[0]}" if conditions.size else "each backbone's own",
        "seed": str(conditions.seed),
    }
    weights = [
        [name, settings.tap(name), study.weights[name].source, study.weights[name].digest[:16]] for name in study.graphs
    ]
    counts = ", ".join(f"{name} {count}" for name, count in data.counts.items())
    return Section(
        "What was done",
        [
            Text(
                f"{len(data)} images ({counts}), fingerprint {data.fingerprint[:16]}. {len(study.cells)} cells: each "
                "is a pipeline of backbone, selector and classifier under one split protocol, cross-validated in five "
                "folds. Scaler, selector and classifier are fitted inside the training folds. The classifier's setting "
                "is tuned on one of the training folds, which the same protocol splits off. Where a classifier's "
                "probabilities have to be calibrated (svm), this is done inside the training folds too."
            ),
            Text(f"Options: {'; '.join(f'{name}: {value}' for name, value in options.items())}."),
            Table(["backbone", "tap", "weights", "digest"], weights, figures=4),
            Text(f"Machine: {here['cpu']}, {here['cores']} cores."),
            Points(
                [
                    f"{name}: {protocols.MEANINGS[name]}.{' Read this one.' if name == best else ''}"
                    for name in study.inputs.splits
                ]
            ),
        ],
    )


def _examples(results: Results) -> Iterator[Section]:
    blocks = list(examples.blocks(results.study)) if results.study.settings.images else []
    if blocks:
        text = (
            "Each row shows an image with its true and its predicted class, then the three nearest images of other "
            "folds, by the features that the classifier reads."
        )
        yield Section("Most confident errors of the best pipeline", [Text(text), *blocks])


def _yes(value: bool) -> str:
    return "yes" if value else "no"
