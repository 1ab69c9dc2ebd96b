"""What an engine has compiled is kept for the next process; a damaged or foreign file is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import colour_graph

from edge_all import machine
from edge_all.targets import engine_cache, open_engine

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_the_second_start_takes_what_the_first_kept(target: str, cache: Path) -> None:
    graph = colour_graph()
    wanted = open_engine(target, graph).run(IMAGES).probabilities
    (kept,) = cache.iterdir()
    written = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(open_engine(target, graph).run(IMAGES).probabilities, wanted)
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [written], "it was compiled again"
    open_engine(target, colour_graph(7.0))
    assert len(list(cache.iterdir())) == 2, "another graph has a file of its own"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_a_kept_file_that_is_no_good_is_made_again(target: str, cache: Path) -> None:
    graph = colour_graph()
    wanted = open_engine(target, graph).run(IMAGES).probabilities
    (kept,) = cache.iterdir()
    sound = kept.read_bytes()
    kept.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert engine_cache.recall(kept) is None
    np.testing.assert_array_equal(open_engine(target, graph).run(IMAGES).probabilities, wanted)
    engine_cache.keep(kept, b"whole, and of another engine")
    np.testing.assert_array_equal(open_engine(target, graph).run(IMAGES).probabilities, wanted)
    assert engine_cache.recall(kept) not in (None, b"whole, and of another engine")


def test_the_name_says_for_what_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    here = engine_cache.place("openvino", b"graph", {"device": "CPU"})
    others = [("onnxruntime", b"graph", {"device": "CPU"}), ("openvino", b"other", {"device": "CPU"})]
    others.append(("openvino", b"graph", {"device": "GPU"}))
    names = {here, *(engine_cache.place(*other) for other in others)}  # type: ignore[arg-type]
    monkeypatch.setattr(machine, "fingerprint", lambda: "another machine")
    assert len(names | {engine_cache.place("openvino", b"graph", {"device": "CPU"})}) == 5


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_no_place_to_keep_anything(target: str, cache: Path) -> None:
    cache.parent.write_text("a file in the way")
    assert open_engine(target, colour_graph()).run(IMAGES).probabilities.shape == (3, 3)
