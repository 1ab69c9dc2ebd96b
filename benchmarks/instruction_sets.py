"""INT8 on older CPUs: python benchmarks/instruction_sets.py BUNDLE... --data DIR [--json FILE]

ONEDNN_MAX_CPU_ISA limits OpenVINO to older instruction sets, as on a mini PC. Each bundle's INT8 graph runs on images
that it was not calibrated on. Heads fitted on FP32 features of the other ``block`` folds give the labels, realigned if
the bundle's own head is. They are compared with the labels that FP32 gives with the same heads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import click
import numpy as np
import onnx

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.bundle import Bundle
from edge_all.export import features
from edge_all.export.dataset import Dataset, folds, read
from edge_all.export.features import Rows
from edge_all.export.graph import edit, names, timing
from edge_all.export.head import evaluate
from edge_all.export.head.fit import Head, HeadSpec
from edge_all.export.quantize import calibration, heads

LIMITS = ("", "AVX2_VNNI", "AVX2")
"""Values of ONEDNN_MAX_CPU_ISA; the empty one is no limit."""

EVERY = 3
"""One in so many of the held-out images is used."""


class MeasuredRow(TypedDict):
    """A bundle under one limit; agreement in percent, times of the backbone for one image."""

    backbone: str
    limit: str
    images: int
    agreement_fp32: float
    fp32_ms: float
    int8_ms: float


@dataclass(frozen=True)
class Fp32:
    """What FP32 gives, to compare INT8 with.

    Attributes:
        images: ``bool [N]``: the images that INT8 is run on, `M` of them.
        folds: ``int64 [M]``: their folds under ``block``.
        features: ``float32 [M, C]``.
        heads: A head for each fold, fitted on the others.
        answers: ``float64 [M, K]``: class probabilities.
    """

    images: np.ndarray
    folds: np.ndarray
    features: np.ndarray
    heads: list[Head]
    answers: np.ndarray


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="The images that the bundles were made from."
)
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the rows to a file.")
@click.option("--measure", hidden=True, type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...], data: Path, report: Path | None, measure: Path | None) -> None:
    """Print a Markdown table; times are of the backbone alone, FP32 and INT8 in alternation."""
    images = read(data)
    if measure:
        _measure(bundles.load(paths[0]), images, measure)
        return
    rows = [row for path in paths for row in _rows(bundles.load(path), images, data)]
    print("| backbone | instruction sets | images | same label as FP32 | FP32 ms | INT8 ms | FP32 / INT8 |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row['backbone']} | {row['limit']} | {row['images']} | {row['agreement_fp32']:.2f} "
            f"| {row['fp32_ms']:.2f} | {row['int8_ms']:.2f} | {row['fp32_ms'] / row['int8_ms']:.2f} |"
        )
    if report:
        content = {"machine": machine.describe(), "rows": rows}
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rows(bundle: Bundle, data: Dataset, folder: Path) -> list[MeasuredRow]:
    fp32 = _fp32(bundle, data)
    realigned = bundle.record["gate"]["targets"]["openvino"].get("head") == "realigned"
    rows: list[MeasuredRow] = []
    unlimited: np.ndarray | None = None
    for limit in LIMITS:
        quantized, (fp32_ms, int8_ms) = _measured(bundle, folder, limit)
        unlimited = quantized if unlimited is None else unlimited
        answers = np.empty_like(fp32.answers)
        for k, head in enumerate(fp32.heads):
            tested = fp32.folds == k
            if not tested.any():
                continue
            if realigned:
                # As it shipped: aligned with FP32 by features that were computed without a limit.
                head = heads.realign(head, unlimited[~tested], fp32.features[~tested])
            answers[tested] = head.predict_proba(quantized[tested])
        rows.append(
            {
                "backbone": bundle.record["backbone"], "limit": limit or "all", "images": int(fp32.images.sum()),
                "agreement_fp32": evaluate.agreement(answers, fp32.answers), "fp32_ms": fp32_ms, "int8_ms": int8_ms,
            }
        )  # fmt: skip
    return rows


def _fp32(bundle: Bundle, data: Dataset) -> Fp32:
    record, split = bundle.record, folds(data, "block")
    images = _images(split)
    exact = features.extract(_backbone(bundle, "fp32"), data, bundle.input_size)
    spec = HeadSpec(record["selector"], record["classifier"], record["features"], record["seed"])
    fold_heads = evaluate.fold_heads(Rows(exact), data.labels, split, spec)
    answers = evaluate.answer(fold_heads, exact, split)
    return Fp32(images, split[images], exact[images], fold_heads, answers[images])


def _images(split: np.ndarray) -> np.ndarray:
    """``bool [N]``: some of the images in the folds that the shipped graph was not calibrated on."""
    numbers = np.flatnonzero(~np.isin(split, calibration.SHIPPED_FOLDS))[::EVERY]
    return np.isin(np.arange(len(split)), numbers)


def _measured(bundle: Bundle, folder: Path, limit: str) -> tuple[np.ndarray, tuple[float, float]]:
    """INT8 features of the images, and the median milliseconds of FP32 and INT8, under a limit."""
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside, "measured.npz")
        command = [sys.executable, __file__, str(bundle.path), "--data", str(folder), "--measure", str(file)]
        subprocess.run(command, check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit or "DEFAULT"})
        with np.load(file) as measured:
            fp32_ms, int8_ms = measured["times"]
            return measured["features"], (float(fp32_ms), float(int8_ms))


def _measure(bundle: Bundle, data: Dataset, file: Path) -> None:
    """Write features and times of this process, whose environment limits OpenVINO."""
    part = data.subset(_images(folds(data, "block")))
    graphs = [_backbone(bundle, precision) for precision in ("fp32", "int8")]
    quantized = features.extract(graphs[1], part, bundle.input_size)
    np.savez(file, features=quantized, times=timing.times("openvino", graphs))


def _backbone(bundle: Bundle, precision: str) -> onnx.ModelProto:
    """The fused graph up to the features."""
    fused = onnx.load_from_string(bundle.read(bundle.model_file("openvino", precision)))
    return edit.extract(fused, [names.IMAGE], [names.FEATURES])


if __name__ == "__main__":
    main()
