"""The user's folders: those of Linux are where they always were, and a user without a home has none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_all import places


@pytest.mark.skipif(sys.platform != "linux", reason="the places of Linux")
def test_the_places_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.cache() == tmp_path / ".cache" / "edge-all"
    assert places.data() == tmp_path / ".local" / "share" / "edge-all"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "d"))
    assert (places.cache(), places.data()) == (tmp_path / "c" / "edge-all", tmp_path / "d" / "edge-all")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("says", ["~/.cache/edge-all", None])
def test_a_user_without_a_home_has_no_place(says: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions of platformdirs leave the `~`, new ones raise an error."""

    def homeless(*words: object, **options: object) -> Path:
        if says is None:
            raise RuntimeError("no home")
        return Path(says)

    monkeypatch.setattr("platformdirs.user_cache_path", homeless)
    assert places.cache() is None
