"""What an engine has compiled is cached for the next process; a damaged or foreign file is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers_bundle import colour_graph

from edge_all import machine
from edge_all.targets import EngineOptions, engine_cache, open_engine

pytestmark = pytest.mark.engine

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_ALL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_the_second_start_takes_what_the_first_cached(target: str, cache: Path) -> None:
    graph = colour_graph()
    wanted = open_engine(graph, EngineOptions(target)).run(IMAGES).probabilities
    (file,) = cache.iterdir()
    written = file.stat().st_mtime_ns
    np.testing.assert_array_equal(open_engine(graph, EngineOptions(target)).run(IMAGES).probabilities, wanted)
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [written], "it was compiled again"
    open_engine(colour_graph(7.0), EngineOptions(target))
    assert len(list(cache.iterdir())) == 2, "another graph has a file of its own"


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_a_cached_file_that_is_no_good_is_made_again(target: str, cache: Path) -> None:
    graph = colour_graph()
    wanted = open_engine(graph, EngineOptions(target)).run(IMAGES).probabilities
    (file,) = cache.iterdir()
    name = f"{cache.name}/{file.name}"
    assert engine_cache.load_cached(name)
    sound = file.read_bytes()
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    assert engine_cache.load_cached(name) is None
    np.testing.assert_array_equal(open_engine(graph, EngineOptions(target)).run(IMAGES).probabilities, wanted)
    engine_cache.store(name, b"whole, and of another engine")
    np.testing.assert_array_equal(open_engine(graph, EngineOptions(target)).run(IMAGES).probabilities, wanted)
    again = engine_cache.load_cached(name)
    assert again and again.content != b"whole, and of another engine"


def test_the_name_says_for_what_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    here = engine_cache.place("openvino", b"graph", {"device": "CPU"})
    others = [("onnxruntime", b"graph", {"device": "CPU"}), ("openvino", b"other", {"device": "CPU"})]
    others.append(("openvino", b"graph", {"device": "GPU"}))
    names = {here, *(engine_cache.place(*other) for other in others)}
    monkeypatch.setattr(machine, "fingerprint", lambda: "another machine")
    assert len(names | {engine_cache.place("openvino", b"graph", {"device": "CPU"})}) == 5


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_no_place_to_keep_anything(target: str, cache: Path) -> None:
    cache.parent.write_text("a file in the way")
    assert open_engine(colour_graph(), EngineOptions(target)).run(IMAGES).probabilities.shape == (3, 3)


def test_openvino_with_given_threads_is_not_pinned() -> None:
    """Each process would take the first cores, and several processes would share them while others are idle."""
    pytest.importorskip("openvino")
    from edge_all.targets.openvino import OpenVinoEngine

    for _ in range(2):  # compiled, and loaded from the cache
        engine = open_engine(colour_graph(), EngineOptions("openvino", threads=1))
        assert isinstance(engine, OpenVinoEngine)
        compiled = engine._requests.get()._request.get_compiled_model()
        assert compiled.get_property("ENABLE_CPU_PINNING") is False
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
