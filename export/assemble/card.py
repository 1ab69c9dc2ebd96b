"""MODEL_CARD.md, for people: what a bundle is, what it was made from, how good it is, and what it is not for.

Form: Mitchell et al. 2019, Model Cards for Model Reporting, arXiv 1810.03993.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from edge_all import intervals, protocols
from edge_all.record import DatasetRecord, Familiarity, Gate, HeldOutScore, Metrics, RecordBody, Score

from .. import outsiders
from ..dataset import kaggle
from . import card_error, lineage, tap_report


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
        f"Classifies {_what(r)}, {width}x{height} pixels in RGB, into {', '.join(r['classes'])}.",
        "",
        "| part | what |",
        "|---|---|",
        f"| backbone | {r['backbone']}, features taken at `{r['tap']}` ({r['channels']} channels) |",
        f"| weights | {r['weights']['source']} (digest {r['weights']['digest'][:16]}) |",
        f"| selector | {r['selector']}, {r['features']} features |",
        f"| trained on | {_trained_on(r)} |",
        f"| classifier | {r['classifier']}{_setting(r)} |",
        f"| histogram equalisation | {'yes' if r['input']['equalize'] else 'no'} |",
        f"| corner at the bottom right masked | {'yes' if r['input']['mask_corner'] else 'no'} |",
        f"| a pixel shows | {_scale(record)} |",
        f"| made | {r['created']} by edge_all {r['tools']['edge-all']}, seed {r['seed']} |",
        "",
        "## Training data",
        "",
        f"Source: {data['source']}. {data['images']} images ({counts}) in {data['groups']} groups of near-duplicates, "
        f"{_given(data)}fingerprint {data['fingerprint'][:16]}.",
        "",
        *_cautions(r),
        *lineage.lines(record),
        "## Accuracy",
        "",
        *_leaks(data),
        "Five-fold cross-validation; scaling, selection and classifier fitted inside the training folds; no image "
        "evaluated by an INT8 graph that was calibrated on it. Percent.",
        "",
        *_SCORES,
        *_accuracy_rows(r["metrics"], r["models"]),
        "",
        *_protocols(r["metrics"]),
        "",
        *card_error.lines(r),
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


def _what(record: RecordBody) -> str:
    return "a blood-smear field" if kaggle.is_leukaemia(record["classes"]) else "an image"


def _cautions(record: RecordBody) -> list[str]:
    """What the figures are worth, by what is known of the images."""
    data = record["dataset"]
    if caution := kaggle.caution(data["source"], record["classes"]):
        return [caution, ""]
    if "given_groups" in data:
        return []
    return [
        "No patients or slides are known of these images (`--groups`). Images of one patient can be on both sides of "
        "every split, so every figure below is an upper bound for the next patient.",
        "",
    ]


def _given(data: DatasetRecord) -> str:
    return f"of {data['given_groups']} given groups (patients or slides), " if "given_groups" in data else ""


def _protocols(measured: Mapping[str, Metrics]) -> Iterator[str]:
    read = protocols.headline(measured)
    for name in measured:
        yield f"- `{name}`: {protocols.MEANINGS[name]}{'; read this one' if name == read else ''}."


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
    def refused(target: str, precision: str) -> str:
        return "" if precision in models[target] else " (refused by the gate: FP32 ships)"

    rows = []
    for protocol, by_precision in metrics.items():
        rows.append(_row(protocol, "FP32", by_precision["fp32"]))
        if "fp16" in by_precision:
            rows.append(_row(protocol, f"FP16, gpu{refused('gpu', 'fp16')}", by_precision["fp16"]))
        if "int8" in by_precision:
            by_target = by_precision["int8"]["targets"].items()
            rows += [_row(protocol, f"INT8, {name}{refused(name, 'int8')}", figures) for name, figures in by_target]
    return rows


def _row(split: str, precision: str, figures: Score) -> str:
    same = f"{figures['agreement_fp32']:.2f}" if "agreement_fp32" in figures else ""
    error = intervals.words(figures["intervals"]["accuracy"], 2) if "intervals" in figures else ""
    return (
        f"| {split} | {precision} | {figures['accuracy']:.2f} | {error} | {figures['balanced_accuracy']:.2f} "
        f"| {figures['macro_f1']:.2f} | {same} |"
    )


_SCORES = (
    "| split | precision | accuracy | 95 % interval | balanced | macro F1 | same label as FP32 |",
    "|---|---|---|---|---|---|---|",
)
"""The head of a table of scores, whose rows are `_row`."""


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
        f"A picture too far from the training images{_by(familiar)} is `unfamiliar`, and its label means nothing. Of "
        f"images that the limit was not fitted on, under `{familiar['protocol']}`, {accepted} pass. "
        f"{_drawn_in(familiar)}A picture that passes is not necessarily like the training images.",
        "",
        f"An image whose most probable class is under {referred['threshold']:.4g} is to be referred. "
        f"{card_error.referral(record)}Under "
        f"`{referred['protocol']}`, FP32:",
        "",
        "| answered, % | least probability | error among them, % |",
        "|---|---|---|",
        *curve,
        "",
        *_outsiders(record),
        *_runs(record),
    ]


def _drawn_in(familiar: Familiarity) -> str:
    """That pictures that are no fields decided about the limit too, where they did."""
    share = familiar.get("drawn_in", 1.0)
    if share == 1:
        return ""
    return f"The limit was drawn in to {share:.2f} of what 99 % of them need, to keep out pictures that are no fields. "


def _by(familiar: Familiarity) -> str:
    return f", by the features that are read or by those at `{familiar['tap']}`," if "tap" in familiar else ""


def _outsiders(record: RecordBody) -> list[str]:
    return [f"Of {outsiders.sentence(record['outsiders'])}.", ""] if "outsiders" in record else []


def _scale(record: RecordBody) -> str:
    unstated = "not stated (`--scale`, `--cell`): `classify --tile` takes a red cell to be 16 pixels across"
    return f"{record['scale']:.3g} µm" if "scale" in record else unstated


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
    fitted, everything = held_out.get("fitted"), record["dataset"]["images"]
    whose = "This very bundle"
    if fitted and fitted < everything:
        whose = (
            f"Not this very bundle: graphs made in the same way from {fitted} images. This bundle is fitted on all "
            f"{everything}, and so cannot be measured on them"
        )
    scores = held_out["scores"]
    return [
        "### On images kept out",
        "",
        f"{whose}. {held_out['images']} images ({held_out['protocol']}).",
        "",
        *_SCORES,
        *(_row("held out", key.replace(".", ", "), figures) for key, figures in scores.items()),
        "",
        *(_status(key.replace(".", ", "), figures) for key, figures in scores.items() if "ok" in figures),
        "",
    ]


def _status(name: str, figures: HeldOutScore) -> str:
    return (
        f"- {name}: {figures['familiar']:.1f} % are familiar, {figures['ok']:.1f} % get `ok`, and "
        f"{figures['wrong_ok']:.2f} % get `ok` with a wrong label."
    )


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
    judged = [verdict["protocol"] for verdict in gate["targets"].values() if "protocol" in verdict]
    head = [
        "",
        f"| target | scheme | head | gate | {(judged or ['block'])[0]} accuracy | same label as FP32 | backbone ms |",
        "|" + "---|" * 7,
    ]
    notes = [
        "",
        "Heads: `fp32` is FP32's own; `realigned` aligns each quantized channel with FP32's by a straight line first; "
        "`refitted` is fitted anew on the quantized features.",
    ]
    return [*head, *rows, *notes]
