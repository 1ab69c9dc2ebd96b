"""The recipe of the built-in bundle on a part of the real fields, and where EDGE_ALL_WHOLE is set, on all of them.

On all it takes ten minutes, and the figures are those of the documentation; on a part they are lower, and a break shows
all the same. What ships is checked in test_builtin_figures.py.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers_command import Command, every_core

DATA = os.environ.get("EDGE_ALL_DATA")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="EDGE_ALL_DATA names no folder of real images"),
]

BACKBONE = ("--backbone", "efficientnet_lite0", "--tap", "blocks.2.0:std")
RECIPE = (*BACKBONE, "--features", 80, "--hold-out", "--no-refit", "--drawn-probe")

STRICT = ("--strict",) if os.environ.get("EDGE_ALL_WHOLE") else ()
"""On a part of the fields the drawn picture that is most like one is at 1.08 of the limit in FP32 and at 1.007 in INT8,
where the order of a sum may decide. So the gate must hold for INT8 on all fields, and for FP32 on a part too."""

RUNS = 5
"""A class's runs of neighbouring fields; a part is taken of each, so that every look of the set is there."""


@dataclass(frozen=True)
class Least:
    """What must be reached, in percent.

    Attributes:
        part: Share of the fields, from 0 to 1.
        block: Accuracy under `block`.
        grouped: Likewise.
        turned: How much a quarter turn may cost.
        changed: Accuracy under each change but the next one.
        blurred: Accuracy under a blur of 3 pixels.
        apart: How far INT8's accuracy may be from FP32's: less than one image of a part.
        familiar: Held-out fields.
        ok: Likewise.
        wrong_ok: Likewise, and at most so many.
    """

    part: float
    block: float
    grouped: float
    turned: float
    changed: float
    blurred: float
    apart: float
    familiar: float
    ok: float
    wrong_ok: float


LEAST = (
    Least(1, block=97.7, grouped=99, turned=1.5, changed=94, blurred=90, apart=0.3, familiar=98, ok=91.5, wrong_ok=1)
    if os.environ.get("EDGE_ALL_WHOLE")
    else Least(
        0.15, block=96.5, grouped=98, turned=2, changed=82, blurred=70, apart=0.35, familiar=96, ok=90, wrong_ok=1
    )
)


@pytest.fixture
def part(tmp_path: Path) -> Path:
    root = tmp_path / "part"
    for folder in sorted(path for path in Path(str(DATA)).iterdir() if path.is_dir()):
        (root / folder.name).mkdir(parents=True)
        files = sorted(folder.iterdir())
        for i, file in enumerate(files):
            if RUNS * i / len(files) % 1 < LEAST.part:
                (root / folder.name / file.name).symlink_to(file.resolve())
    return root


def test_export_of_the_builtin_recipe(edge_all: Command, untimed: None, part: Path, tmp_path: Path) -> None:
    with every_core():
        done = edge_all("export", *RECIPE, "--data", part, "--out", tmp_path / "b", "--json", *STRICT)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    for name, count in summary["outsiders"]["ok"].items():
        assert count <= (0 if "fp32" in name or STRICT else 1)
    block, grouped = (summary["metrics"][name] for name in ("block", "grouped"))
    assert block["fp32"]["accuracy"] >= LEAST.block and grouped["fp32"]["accuracy"] >= LEAST.grouped
    for robust in (summary["robustness"]["fp32"], *summary["robustness"]["int8"].values()):
        changes = robust["changes"]
        assert (
            changes["quarter turn"] >= robust["clean"] - LEAST.turned and changes.pop("blur of 3 px") >= LEAST.blurred
        )
        assert min(changes.values()) >= LEAST.changed
    for figures in block["int8"]["targets"].values():
        assert abs(figures["accuracy"] - block["fp32"]["accuracy"]) <= LEAST.apart
        assert figures["agreement_fp32"] >= 99
    assert all(verdict["passed"] for verdict in summary["gate"]["targets"].values())
    assert summary["gate"]["passed"] == (not any(summary["outsiders"]["ok"].values()))
    for figures in summary["held_out"]["scores"].values():
        assert figures["accuracy"] >= 97 and figures["familiar"] >= LEAST.familiar
        assert figures["ok"] >= LEAST.ok and figures["wrong_ok"] <= LEAST.wrong_ok
