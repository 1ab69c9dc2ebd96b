"""schemathesis asks a real server what the description of its API allows, and what it does not allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("schemathesis", reason="schemathesis is not installed")

CONFIG = """
[parameters]
"path.name" = "colour"
"path.version" = "1"

[[operations]]
include-path = "/events"
max-stream-events = 1
"""
"""The model that is there; and /events never ends."""


@pytest.mark.slow
def test_what_the_description_allows_is_answered_and_all_else_is_refused(address: str, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    words = ["run", f"{address}/openapi.json", "--seed", "1", "--max-examples", "3", "--no-color", "--no-shrink"]
    here = str(Path(__file__).parent)
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "SCHEMATHESIS_HOOKS": "helpers_schemathesis"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout + done.stderr
