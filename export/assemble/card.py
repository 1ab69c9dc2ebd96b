"""MODEL_CARD.md, for people: what a bundle is, what it was made from, how good it is, and what it is not for.

Form: Mitchell et al. 2019, Model Cards for Model Reporting, arXiv 1810.03993.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_all.record import DatasetRecord, Familiarity, Gate, Metrics, RecordBody, Score

from .. import outsiders
from ..dataset import kaggle
from . import tap_report

_PROTOCOLS = {
    "random": "images at random; near-duplicates leak from training into test",
    "grouped": "near-duplicate images kept on one side",
    "block": "contiguous runs of each class's files: the nearest thing to a split by slide; read this one",
}


def write(record: RecordBody) -> str:
    """The card of a bundle's record."""
    r, data = record, record["dataset"]
    height, width = r["input"]["height"], r["input"]["width"]
    counts = ", ".join(f"{name} {count}" for name, count in data["counts"].items())
    lines = [
        f"# {r['name']}",
        "",
        "**Research software, not a medical device. No label it gives is a diagnosis.**",
        "",
        f"Classifies a blood-smear field, {width}x{height} pixels in RGB, into {', '.join(r['classes'])}.",
        "",
        "| part | what |",
        "|---|---|",
        f"| backbone | {r['backbone']}, features taken at `{r['tap']}` ({r['channels']} channels) |",
        f"| weights | {r['weights']['source']} (digest {r['weights']['digest'][:16]}) |",
        f"| selector | {r['selector']}, {r['features']} features |",
        f"| trained on | {_trained_on(r)} |",
        f"| classifier | {r['classifier']}{_setting(r)} |",
        f"| histogram equalisation | {'yes' if r['input']['equalize'] else 'no'} |",
        f"| scale bar's corner masked | {'yes' if r['input']['mask_corner'] else 'no'} |",
        f"| a pixel shows | {_scale(record)} |",
        f"| made | {r['created']} by edge_all {r['tools']['edge-all']}, seed {r['seed']} |",
        "",
        "## Training data",
        "",
        f"Source: {data['source']}. {data['images']} images ({counts}) in {data['groups']} groups of near-duplicates, "
        f"fingerprint {data['fingerprint'][:16]}.",
        "",
        f"About the images of Aria et al. 2021 (Taleqani Hospital, DOI {kaggle.DOI}): they carry no patient or "
        "slide numbers, stain colour alone almost identifies the class, and a burnt-in scale bar differs by class. "
        "Every figure below is therefore an upper bound for the next patient.",
        "",
        "## Accuracy",
        "",
        *_leaks(data),
        "Five-fold cross-validation; scaling, selection and classifier fitted inside the training folds; no image "
        "evaluated by an INT8 graph that was calibrated on it. Percent.",
        "",
        "| split | precision | accuracy | balanced | macro F1 | same label as FP32 |",
        "|---|---|---|---|---|---|",
        *_accuracy_rows(r["metrics"], r["models"]),
        "",
        *(f"- `{name}`: {meaning}." for name, meaning in _PROTOCOLS.items()),
        "",
        *_recall(r),
        *_robustness(r),
        *_limits(r),
        *_held_out(r),
        *(["## Taps compared", "", *tap_report.lines(r["taps"]), ""] if r["taps"] else []),
        "## INT8 gate",
        "",
        *_gate(r["gate"]),
        "",
        "## Not for",
        "",
        "Diagnosis, screening, or any decision about a patient; other stains, cameras, magnifications or diseases than "
        "those of the training data.",
        "",
    ]
    return "\n".join(lines)


def _trained_on(record: RecordBody) -> str:
    if record["balance"]:
        return "every image, and changed copies of those of the smallest class"
    return f"every image, and {record['augment']} changed copies of it"


def _setting(record: RecordBody) -> str:
    return "".join(f", {name.replace('_', ' ')} {value:g}" for name, value in (record["setting"] or {}).items())


def _leaks(data: DatasetRecord) -> list[str]:
    crossing = ", ".join(f"`{name}` {count}" for name, count in data["near_duplicates_across_folds"].items())
    return [f"Test images with a near-duplicate among the training images, by split: {crossing}.", ""]


def _accuracy_rows(metrics: Mapping[str, Metrics], models: Mapping[str, Mapping[str, str]]) -> list[str]:
    rows = []
    for protocol, by_precision in metrics.items():
        rows.append(_row(protocol, "FP32", by_precision["fp32"]))
        if "fp16" in by_precision:
            refused = "" if "fp16" in models["gpu"] else " (refused by the gate: FP32 ships)"
            rows.append(_row(protocol, f"FP16, gpu{refused}", by_precision["fp16"]))
        if "int8" in by_precision:
            by_target = by_precision["int8"]["targets"].items()
            rows += [_row(protocol, f"INT8, {target}", figures) for target, figures in by_target]
    return rows


def _row(split: str, precision: str, figures: Score) -> str:
    same = f"{figures['agreement_fp32']:.2f}" if "agreement_fp32" in figures else ""
    return (
        f"| {split} | {precision} | {figures['accuracy']:.2f} | {figures['balanced_accuracy']:.2f} "
        f"| {figures['macro_f1']:.2f} | {same} |"
    )


def _recall(record: RecordBody) -> list[str]:
    recall = record["metrics"]["block"]["fp32"]["recall"]
    return [f"Recall under `block`, FP32: {', '.join(f'{name} {value:.1f}' for name, value in recall.items())}.", ""]


def _robustness(record: RecordBody) -> list[str]:
    robust = record["robustness"]
    by_precision = {"FP32": robust["fp32"]} | {f"INT8, {t}": figures for t, figures in robust["int8"].items()}
    changes = robust["fp32"]["changes"]

    def row(name: str, accuracies: Iterable[float]) -> str:
        return f"| {name} | {' | '.join(f'{value:.2f}' for value in accuracies)} |"

    return [
        "### When light, focus or orientation change",
        "",
        f"Accuracy in percent under `{robust['protocol']}` on {robust['images']} of the images, changed in one way.",
        "",
        f"| change | {' | '.join(by_precision)} |",
        "|---|" + "---|" * len(by_precision),
        row("none", (figures["clean"] for figures in by_precision.values())),
        *(row(name, (figures["changes"][name] for figures in by_precision.values())) for name in changes),
        "",
    ]


def _limits(record: RecordBody) -> list[str]:
    familiar, referred = record["familiarity"], record["referral"]
    accepted = ", ".join(
        f"{'FP32' if name == 'fp32' else f'INT8 {name}'} {share:.2f} %" for name, share in familiar["accepted"].items()
    )
    curve = [f"| {c['coverage']:.1f} | {c['threshold']:.3f} | {c['error']:.2f} |" for c in referred["curve"]]
    return [
        "### What it does not answer",
        "",
        f"A picture too far from the training images{_by(familiar)} is `unfamiliar`, and its label means nothing. Of images that the "
        f"limit was not fitted on, under `{familiar['protocol']}`, {accepted} pass. A picture that passes is not "
        "necessarily a smear like the training images.",
        "",
        f"An image whose most probable class is under {referred['threshold']:.3f} is to be referred. Under "
        f"`{referred['protocol']}`, FP32:",
        "",
        "| answered, % | least probability | error among them, % |",
        "|---|---|---|",
        *curve,
        "",
        *_outsiders(record),
        *_runs(record),
    ]


def _by(familiar: Familiarity) -> str:
    return f", by its features at `{familiar['tap']}`," if "tap" in familiar else ""


def _outsiders(record: RecordBody) -> list[str]:
    return [f"Of {outsiders.sentence(record['outsiders'])}.", ""] if "outsiders" in record else []


def _scale(record: RecordBody) -> str:
    return f"{record['scale']:.3g} µm" if "scale" in record else "not stated"


def _runs(record: RecordBody) -> list[str]:
    drift = record.get("drift")
    if not drift:
        return []
    return [
        f"Runs of {drift['run']} neighbouring images are judged together, for a microscope that has changed "
        f"({', '.join(drift['changes'])}). The limits are {drift['margin']:g} times the largest scores of "
        f"{drift['runs']} runs of training images, each judged without its own fold of `{drift['protocol']}`.",
        "",
    ]


def _held_out(record: RecordBody) -> list[str]:
    held_out = record["held_out"]
    if not held_out:
        return []
    return [
        "### This very bundle, on images kept out of the export",
        "",
        f"{held_out['images']} images ({held_out['protocol']}).",
        "",
        "| split | precision | accuracy | balanced | macro F1 | same label as FP32 |",
        "|---|---|---|---|---|---|",
        *(_row("held out", key.replace(".", ", "), figures) for key, figures in held_out["scores"].items()),
        "",
    ]


def _gate(gate: Gate) -> list[str]:
    lines = []
    for target, verdict in gate["targets"].items():
        if "lost" not in verdict:
            lines.append(f"- {target}: every scheme failed; FP32 ships.")
            continue
        lost, allowed = verdict["lost"], verdict["allowed"]
        what = ", ".join(f"{name.replace('_', ' ')} {lost[name]} (allowed {allowed[name]})" for name in lost)
        ms = f", {verdict['graph_ms']} ms against {verdict['fp32_graph_ms']} ms" if verdict.get("graph_ms") else ""
        how = f"{verdict['scheme']}, head {verdict['head']}{ms}"
        result = f"{how}: passed" if verdict["passed"] else f"all refused, nearest {how}; FP32 ships"
        lines.append(f"- {target}: {result}. Percentage points lost: {what}.")
    return [*(lines or ["No INT8 graph was asked for."]), *_tried(gate)]


def _tried(gate: Gate) -> list[str]:
    """Everything that was tried; times are the backbone's alone, on the exporting machine."""
    rows = []
    for target, verdict in gate["targets"].items():
        for t in verdict["tried"]:
            if "failed" in t:
                rows.append(f"| {target} | {t['scheme']} | - | failed: {t['failed'].replace('|', '/')} | | | |")
                continue
            block, ms = t["block"], "-" if t["graph_ms"] is None else f"{t['graph_ms']:.2f}"
            rows.append(
                f"| {target} | {t['scheme']} | {t['head']} | {'passed' if t['passed'] else 'refused'} "
                f"| {block['accuracy']:.2f} | {block['agreement_fp32']:.2f} | {ms} |"
            )
    if not rows:
        return []
    head = [
        "",
        "| target | scheme | head | gate | block accuracy | same label as FP32 | backbone ms |",
        "|" + "---|" * 7,
    ]
    notes = [
        "",
        "Heads: `fp32` is FP32's own; `realigned` aligns each quantized channel with FP32's by a straight line first; "
        "`refitted` is fitted anew on the quantized features.",
    ]
    return [*head, *rows, *notes]
