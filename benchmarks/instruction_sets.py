"""INT8 on lesser CPUs: python benchmarks/instruction_sets.py BUNDLE... --data DIR [--json FILE]

OpenVINO is held to older instruction sets through ONEDNN_MAX_CPU_ISA, as on a mini PC. Each bundle's INT8 graph answers
images that it was not calibrated on; the labels are given by heads fitted on the other ``block`` folds' FP32 features,
realigned if the bundle's own is, and compared with those that FP32 gives with the same heads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx.utils import Extractor

from edge_all import bundle as bundles
from edge_all import machine
from edge_all.bundle import Bundle
from edge_all.export import features
from edge_all.export.dataset import Dataset, folds, read
from edge_all.export.graph import timing
from edge_all.export.head import evaluate
from edge_all.export.head.evaluate import Rows
from edge_all.export.head.fit import fit_head
from edge_all.export.quantize import calibration, heads

LIMITS = ("", "AVX2_VNNI", "AVX2")

EVERY = 3
"""Of the held-out images, one in so many is used."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="The images that the bundles were made from."
)
@click.option("--json", "report", type=click.Path(path_type=Path))
@click.option("--measure", hidden=True, type=click.Path(path_type=Path))
def main(paths: tuple[Path, ...], data: Path, report: Path | None, measure: Path | None) -> None:
    """Print a Markdown table; times are of the backbone alone, FP32 and INT8 alternating."""
    if measure:
        _measure(bundles.load(paths[0]), read(data), measure)
        return
    images = read(data)
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
        report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _rows(bundle: Bundle, data: Dataset, folder: Path) -> list[dict[str, Any]]:
    record = bundle.record
    split = folds(data, "block")
    chosen = _chosen(split)
    exact = features.extract(_backbone(bundle, "fp32"), data.paths, data.digests, bundle.input_size)
    fit = partial(
        fit_head, selector=record["selector"], classifier=record["classifier"], count=record["features"],
        seed=record["seed"],
    )  # fmt: skip
    fitted = evaluate.fold_heads(Rows(exact), data.labels, split, fit)
    wanted = evaluate.answer(fitted, exact, split)[chosen]
    rows, usual = [], None
    for limit in LIMITS:
        with tempfile.TemporaryDirectory() as aside:
            file = Path(aside, "found.npz")
            words = [sys.executable, __file__, str(bundle.path), "--data", str(folder), "--measure", str(file)]
            subprocess.run(words, check=True, env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit or "DEFAULT"})
            found = dict(np.load(file))
        usual = found["features"] if usual is None else usual
        given = np.empty_like(wanted)
        for k, head in enumerate(fitted):
            own = split[chosen] == k
            if not own.any():
                continue
            if record["gate"]["targets"]["openvino"]["head"] == "realigned":
                # As it shipped: laid onto FP32's by features of this machine's full instruction sets.
                head = heads.realign(head, usual[~own], exact[chosen][~own])
            given[own] = head.predict_proba(found["features"][own])
        rows.append(
            {
                "backbone": record["backbone"], "limit": limit or "all", "images": int(chosen.sum()),
                "agreement_fp32": evaluate.agreement(given, wanted),
                "fp32_ms": float(found["times"][0]), "int8_ms": float(found["times"][1]),
            }
        )  # fmt: skip
    return rows


def _chosen(split: np.ndarray) -> np.ndarray:
    """``bool [N]``: some of the images in the folds that the shipped graph was not calibrated on."""
    numbers = np.flatnonzero(~np.isin(split, calibration.SHIPPED_FOLDS))[::EVERY]
    return np.isin(np.arange(len(split)), numbers)


def _measure(bundle: Bundle, data: Dataset, file: Path) -> None:
    """Features and times in this process, whose environment limits OpenVINO."""
    part = data.subset(_chosen(folds(data, "block")))
    graphs = [_backbone(bundle, precision) for precision in ("fp32", "int8")]
    found = features.extract(graphs[1], part.paths, part.digests, bundle.input_size)
    np.savez(file, features=found, times=timing.times("openvino", graphs))


def _backbone(bundle: Bundle, precision: str) -> onnx.ModelProto:
    """The fused graph up to the features."""
    fused = onnx.load_from_string(bundle.read(bundle.model_file("openvino", precision)))
    return Extractor(fused).extract_model(["image"], ["features"])


if __name__ == "__main__":
    main()
