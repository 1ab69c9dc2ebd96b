"""What pyproject.toml lists is what the wheel holds: every package, every file that code reads, and nothing else."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def folder(package: str) -> Path:
    """Where a package lies: under the folder of the longest of its beginnings that has one."""
    parts = package.split(".")
    for length in range(len(parts), 0, -1):
        start = SETUPTOOLS["package-dir"].get(".".join(parts[:length]))
        if start:
            return ROOT.joinpath(start, *parts[length:])
    return ROOT.joinpath(*parts)


def files(folder: Path) -> set[Path]:
    """All files below a folder of the source."""
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_every_folder_with_code_is_a_listed_package() -> None:
    code = {path.parent for name in ("edge_all", "export") for path in files(ROOT / name) if path.suffix == ".py"}
    assert sorted(folder(package) for package in SETUPTOOLS["packages"]) == sorted(code)


def test_every_other_file_is_listed_as_data() -> None:
    listed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in folder(package).glob(pattern)
    }
    others = {path for name in ("edge_all", "export") for path in files(ROOT / name) if path.suffix != ".py"}
    assert listed == others


def test_every_pattern_matches_a_file() -> None:
    for package, patterns in SETUPTOOLS["package-data"].items():
        assert package in SETUPTOOLS["packages"]
        for pattern in patterns:
            assert any(folder(package).glob(pattern)), f"{package}: nothing is called {pattern}"


def test_every_requirement_of_the_runtime_has_a_lowest_version() -> None:
    """scripts/lowest installs these very versions."""
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["openvino"], *extras["plot"]]:
        assert re.fullmatch(r"[a-z-]+>=[0-9.]+", requirement)
