"""The archive for PCs without internet: whole for another system, and refused where it does not fit."""

from __future__ import annotations

import importlib
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("packaging", reason="the extra wheelhouse is not installed")

from packaging.requirements import Requirement

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def wheelhouse(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("wheelhouse")


def wheel(folder: Path, name: str, version: str, *needs: str) -> Path:
    """A wheel that holds nothing but what it needs."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = "".join(f"Requires-Dist: {need}\n" for need in needs)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\n{about}\n")
    return path


def test_what_only_the_target_needs_is_missing(wheelhouse: ModuleType, tmp_path: Path) -> None:
    """pip, on Linux, downloads no colorama for Windows."""
    wheel(tmp_path, "edge_all", "0.1.0", "click>=8", 'uvicorn; extra == "serve"', 'torch; extra == "export"')
    wheel(tmp_path, "click", "8.1", 'colorama; platform_system == "Windows"', 'old; python_version < "3.8"')
    wheel(tmp_path, "uvicorn", "0.32", 'uvloop>=0.14; sys_platform != "win32" and extra == "standard"', "Click>=9")
    start = Requirement("edge_all[serve]")

    def missing(platform: str) -> list[str]:
        target = wheelhouse.Target(platform, "3.11")
        found: list[str] = wheelhouse.missing(tmp_path.glob("*.whl"), start, target.environment())
        return found

    assert missing("windows") == ["Click>=9", "colorama"]
    assert missing("linux-aarch64") == ["Click>=9"]
    (tmp_path / "click-8.1-py3-none-any.whl").unlink()
    wheel(tmp_path, "click", "9.0")
    assert missing("linux-x86_64") == []


def test_what_is_missing_is_downloaded_too(
    wheelhouse: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def pip(target: object, wanted: list[str], folder: Path) -> None:
        asked.append(list(wanted))
        wheel(tmp_path, "edge_all", "0.1.0", "click>=8")
        wheel(tmp_path, "click", "8.1", 'colorama; platform_system == "Windows"')
        if "colorama" in wanted:
            wheel(tmp_path, "colorama", "0.4.6")

    monkeypatch.setattr(wheelhouse, "_pip", pip)
    wheelhouse.download(wheelhouse.Target("windows", "3.11"), Path("e.whl"), ["serve"], tmp_path)
    assert asked == [["e.whl[serve]"], ["e.whl[serve]", "colorama"]]


@pytest.mark.parametrize("change", ["machine", "content", None])
def test_the_archive_refuses_what_does_not_fit(wheelhouse: ModuleType, tmp_path: Path, change: str | None) -> None:
    """Up to pip, which finds no edge_all in this one."""
    room, out = tmp_path / "room", tmp_path / "a.zip"
    (room / "wheels").mkdir(parents=True)
    wheel(room / "wheels", "click", "8.1")
    here = wheelhouse.here()
    wheelhouse.pack(out, room, [wheelhouse.Target("windows", "2.0") if change == "machine" else here], ["serve"])
    first = out.read_bytes()
    wheelhouse.pack(out, room, [wheelhouse.Target("windows", "2.0") if change == "machine" else here], ["serve"])
    assert change or out.read_bytes() == first
    if change == "content":
        with zipfile.ZipFile(out, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("wheels/click-8.1-py3-none-any.whl", b"another")
    done = subprocess.run([sys.executable, "-I", out, "--into", tmp_path / "pc"], capture_output=True, text=True)
    assert done.returncode == 1
    said = {"machine": "the archive is for windows with Python 2.0", "content": "damaged; copy the archive again"}
    assert said.get(str(change), "The wheels cannot be installed") in done.stderr
    assert (tmp_path / "pc").exists() is (change is None)
