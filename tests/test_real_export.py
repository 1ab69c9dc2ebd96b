"""The recipe of the built-in bundle keeps what the documentation claims; it takes minutes, so it has its own file."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers_command import Command, every_core

from edge_all import bundle

DATA = os.environ.get("EDGE_ALL_DATA")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.slow,
    pytest.mark.skipif(not DATA, reason="EDGE_ALL_DATA names no folder of real images"),
]

BACKBONE = ("--backbone", "efficientnet_lite0", "--tap", "blocks.2.0:std")
RECIPE = (*BACKBONE, "--features", 80, "--hold-out", "--no-refit", "--drawn-probe")


def test_export_of_the_builtin_recipe(edge_all: Command, untimed: None, tmp_path: Path) -> None:
    with every_core():
        done = edge_all("export", *RECIPE, "--data", DATA, "--out", tmp_path / "b", "--json", "--strict")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    block, grouped = (summary["metrics"][name] for name in ("block", "grouped"))
    shipped = bundle.load(bundle.BUILTIN).record["metrics"]["block"]["fp32"]["accuracy"]
    assert block["fp32"]["accuracy"] >= max(97.5, shipped - 0.3) and grouped["fp32"]["accuracy"] >= 99
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
