"""The recipe of the built-in bundle on a part of the real fields; it takes minutes, so it has its own file.

The figures of the bundle itself are checked in test_builtin_figures.py.
"""

from __future__ import annotations

import json
import os
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

EACH = 260
"""Fields of each class, neighbouring ones: about half of the set. The kernels of the SVM take a quarter of the time."""


@pytest.fixture
def part(tmp_path: Path) -> Path:
    root = tmp_path / "part"
    for folder in sorted(path for path in Path(str(DATA)).iterdir() if path.is_dir()):
        (root / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:EACH]:
            (root / folder.name / file.name).symlink_to(file.resolve())
    return root


def test_export_of_the_builtin_recipe(edge_all: Command, untimed: None, part: Path, tmp_path: Path) -> None:
    with every_core():
        done = edge_all("export", *RECIPE, "--data", part, "--out", tmp_path / "b", "--json", "--strict")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({k: summary[k] for k in ("metrics", "robustness", "held_out")}))
    block, grouped = (summary["metrics"][name] for name in ("block", "grouped"))
    assert block["fp32"]["accuracy"] >= 97.5 and grouped["fp32"]["accuracy"] >= 99
    for robust in (summary["robustness"]["fp32"], *summary["robustness"]["int8"].values()):
        changes = robust["changes"]
        assert changes["quarter turn"] >= robust["clean"] - 1.5 and changes.pop("blur of 3 px") >= 90
        assert min(changes.values()) >= 94
    for figures in block["int8"]["targets"].values():
        assert abs(figures["accuracy"] - block["fp32"]["accuracy"]) <= 0.3 and figures["agreement_fp32"] >= 99.3
    assert summary["gate"]["passed"]
    for figures in summary["held_out"]["scores"].values():
        assert figures["accuracy"] >= 97 and figures["familiar"] >= 98 and figures["ok"] >= 91.5
        assert figures["wrong_ok"] <= 1
