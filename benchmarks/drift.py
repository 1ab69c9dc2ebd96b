"""Are runs of fields flagged when the microscope changes, and only then? python benchmarks/drift.py --data DIR

A run is 20 neighbouring fields of one class, by their file numbers, and one begins at every field. Two things are
measured, on fields as they are and under changes of other kinds and strengths than those that the check was fitted to:

- the bundle's own graph, on the fields that it was not trained on;
- the method: each fifth of `block` in turn is kept out, the check is fitted on the other four as an export does, and
  the fifth is judged. What the classifier reads is taken from the bundle's graph, FP32 for fitting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import click
import numpy as np
import onnx
import onnxruntime as ort

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.bundle import Bundle
from edge_all.export import features
from edge_all.export.dataset import Dataset, folds, read, spread
from edge_all.export.dataset.changes import Change
from edge_all.export.graph import edit
from edge_all.export.graph.names import SELECTED
from edge_all.export.head import drift
from edge_all.export.head.drift import Fields

CHANGES: tuple[Change, ...] = (
    Change("gamma 1.5", gamma=1.5),
    Change("gamma 1.8", gamma=1.8),
    Change("gamma 0.67", gamma=0.67),
    Change("blur 1 px", blur=1.0),
    Change("blur 2.5 px", blur=2.5),
    Change("blur 3 px", blur=3.0),
    Change("red -20 %, blue +20 %", gains=(0.8, 1.0, 1.2)),
    Change("red +20 %, blue -20 %", gains=(1.2, 1.0, 0.8)),
    Change("green -20 %", gains=(1.0, 0.8, 1.0)),
    Change("30 % darker", gains=(0.7, 0.7, 0.7)),
    Change("30 % brighter", gains=(1.3, 1.3, 1.3)),
    Change("zoom 1.5", zoom=1.5),
    Change("zoom 0.75", zoom=0.75),
    Change("haematoxylin x1.4, eosin x0.6", stain=(1.4, 0.6)),
    Change("haematoxylin x0.6, eosin x1.4", stain=(0.6, 1.4)),
)

UNCHANGED = "as they are"

WANTED = [SELECTED, "probabilities", "unfamiliarity", "deviation"]

Outputs = Mapping[str, np.ndarray]
"""Of a graph, by name, ``[N, ...]`` each."""


class Row(TypedDict):
    """Runs under one change.

    Attributes:
        runs: How many there are.
        flagged: Percent of them that are flagged.
        single: Percent of the fields that are `unfamiliar` by themselves.
    """

    runs: int
    flagged: float
    single: float


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder with one folder a class.")
@click.option("--bundle", "path", default=bundles.BUILTIN, type=click.Path(path_type=Path), help="[default: built-in]")
@click.option("--own", "only_own", is_flag=True, help="The bundle's own check alone, which takes a tenth of the time.")
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(data: Path, path: Path, only_own: bool, report: Path | None) -> None:
    """Print two tables: the bundle's own check on fields that it was not trained on, and the method by rotation."""
    bundle, dataset = bundles.load(path), read(data)
    known = bundle.training_images()
    unseen = np.array([digest[:16] not in known for digest in dataset.digests])
    numbers = folds(dataset, "block")
    if only_own:
        dataset, numbers, unseen = dataset.subset(unseen), numbers[unseen], np.ones(int(unseen.sum()), bool)
    precisions = _outputs(bundle, dataset, () if only_own else drift.CHANGES)
    own = {
        name: {change: _own(dataset, numbers, unseen, given) for change, given in by_change.items()}
        for name, by_change in precisions.items()
    }
    _print("the bundle's own check, on fields that it was not trained on", own)
    rotated: dict[str, dict[str, Row]] = {}
    if not only_own:
        for name, by_change in precisions.items():
            rotated[name] = _rotated(dataset, numbers, precisions["fp32"], by_change)
        _print("the method, each fifth kept out in turn", rotated)
    if report:
        content = {"machine": machine.describe(), "bundle": bundle.name, "digest": bundle.digest}
        report.write_text(json.dumps(content | {"own": own, "rotated": rotated}, indent=1) + "\n", encoding="utf-8")


def _outputs(bundle: Bundle, data: Dataset, others: Sequence[Change]) -> dict[str, dict[str, Outputs]]:
    """What the graphs give for all images, by precision and change."""
    sessions = {name: _session(bundle, name) for name in bundle.precisions("cpu")}
    given: dict[str, dict[str, Outputs]] = {name: {} for name in sessions}
    for change in (None, *CHANGES, *others):
        rows: dict[str, list[list[np.ndarray]]] = {name: [] for name in sessions}
        for image in features.changed(data, bundle.input_size, change):
            for name, session in sessions.items():
                rows[name].append(session.run(WANTED, {"image": image[np.newaxis]}))
        for name, of_change in rows.items():
            outputs = map(np.concatenate, zip(*of_change, strict=True))
            given[name][change.name if change else UNCHANGED] = dict(zip(WANTED, outputs, strict=True))
    return given


def _session(bundle: Bundle, precision: str) -> ort.InferenceSession:
    model = edit.copy(onnx.load_from_string(bundle.read(bundle.model_file("cpu", precision))))
    model.graph.output.append(onnx.ValueInfoProto(name=SELECTED))
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _neighbours(data: Dataset, chosen: np.ndarray) -> list[np.ndarray]:
    """Numbers of the fields of each run among those that are chosen, ``bool [N]``."""
    runs = []
    for label in range(len(data.classes)):
        numbers = np.flatnonzero(chosen & (data.labels == label))
        runs += [numbers[i : i + drift.RUN] for i in range(len(numbers) - drift.RUN + 1)]
    return runs


def _row(scores: np.ndarray, unfamiliarity: np.ndarray, runs: list[np.ndarray]) -> Row:
    flagged = [scores[run].mean(0).max() > 1 for run in runs]
    single = unfamiliarity[np.unique(np.concatenate(runs))] > 1
    return {"runs": len(runs), "flagged": 100 * float(np.mean(flagged)), "single": 100 * float(single.mean())}


def _own(data: Dataset, numbers: np.ndarray, unseen: np.ndarray, given: Outputs) -> Row:
    runs = [run for fold in np.unique(numbers) for run in _neighbours(data, unseen & (numbers == fold))]
    return _row(given["deviation"], given["unfamiliarity"], runs)


def _rotated(
    data: Dataset, numbers: np.ndarray, fp32: Mapping[str, Outputs], judged: Mapping[str, Outputs]
) -> dict[str, Row]:
    """Fit on four fifths, by FP32, and judge the fifth; all answers are those of the head that ships."""
    parts: dict[str, list[Row]] = {change: [] for change in judged}
    for fold in np.unique(numbers):
        training, runs = numbers != fold, _neighbours(data, numbers == fold)
        fields = Fields(
            fp32[UNCHANGED][SELECTED][training].astype(float),
            fp32[UNCHANGED]["probabilities"][training].astype(float),
            data.labels[training],
            numbers[training],
        )
        chosen = spread(np.arange(int(training.sum())), drift.IMAGES)
        changed = {
            change.name: tuple(
                fp32[change.name][name][training][chosen].astype(float) for name in (SELECTED, "probabilities")
            )
            for change in drift.CHANGES
        }
        found = drift.solve(fields, chosen, changed)
        if not found:
            raise click.ClickException(f"{data.root}: there are too few neighbouring fields")
        for change, given in judged.items():
            scores = found.scores(given[SELECTED].astype(float), given["probabilities"].astype(float))
            parts[change].append(_row(scores, given["unfamiliarity"], runs))
    return {change: _together(rows) for change, rows in parts.items()}


def _together(rows: list[Row]) -> Row:
    runs = sum(row["runs"] for row in rows)
    mean: Callable[[str], float] = lambda name: sum(row["runs"] * row[name] for row in rows) / runs  # type: ignore[literal-required]  # noqa: E731
    return {"runs": runs, "flagged": mean("flagged"), "single": mean("single")}


def _print(title: str, rows: Mapping[str, Mapping[str, Row]]) -> None:
    print(
        f"\n{title}\n\n| fields | {' | '.join(f'runs flagged {name}, %' for name in rows)} | single fields, % | runs |"
    )
    print("|---|" + "---|" * (len(rows) + 2))
    first = next(iter(rows.values()))
    for change in (UNCHANGED, *(change.name for change in CHANGES)):
        shares = " | ".join(f"{by_change[change]['flagged']:.1f}" for by_change in rows.values())
        print(f"| {change} | {shares} | {first[change]['single']:.1f} | {first[change]['runs']} |")


if __name__ == "__main__":
    main()
