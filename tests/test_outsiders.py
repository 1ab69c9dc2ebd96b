"""Pictures that are no fields: what is drawn, and the gate that an export fails which answers them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_graph
from PIL import Image

from edge_all.export import outsiders
from edge_all.export.assemble import record as records
from edge_all.export.assemble import verify
from edge_all.export.assemble.variants import Variant
from edge_all.export.outsiders import Outsider
from edge_all.record import OutsidersRecord


@pytest.fixture(scope="module")
def shown() -> list[Outsider]:
    return list(outsiders.pictures((48, 64)))


def test_they_are_many_of_many_kinds_and_the_same_each_time(shown: list[Outsider]) -> None:
    kinds = Counter(kind for kind, _ in shown)
    assert len(shown) >= 100 and len(kinds) >= 15 and kinds["photograph"] >= 8
    assert all(pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 for _, pixels in shown)
    assert len({pixels.tobytes() for kind, pixels in shown if "noise" in kind}) == sum(
        count for kind, count in kinds.items() if "noise" in kind
    )
    again = outsiders.pictures((48, 64))
    assert all(kind == other and np.array_equal(a, b) for (kind, a), (other, b) in zip(shown, again, strict=True))
    first, other_seed = next(outsiders.pictures((48, 64))), next(outsiders.pictures((48, 64), seed=1))
    assert first.kind == other_seed.kind and not np.array_equal(first.pixels, other_seed.pixels)


def test_packaged_pictures_are_read_and_others_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    Image.new("L", (90, 70), 9).save(folder / "b.png")
    Image.new("RGB", (30, 90)).save(folder / "icon.png")
    (folder / "a.txt").write_text("no picture")
    (tmp_path / "skimage" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(outsiders, "_PACKAGES", {"skimage": "data", "no_such_package": "data"})
    assert [picture.size for picture in outsiders.photographs()] == [(90, 70)]


def _bright(value: int) -> Iterator[Outsider]:
    """Pictures of which the bundle of colours is sure, or not."""
    for i in range(3):
        pixels = np.full((48, 64, 3), 60, np.uint8)
        pixels[..., i] = value
        yield Outsider("one colour", pixels)


def _shown(monkeypatch: pytest.MonkeyPatch, value: int) -> OutsidersRecord:
    monkeypatch.setattr(outsiders, "pictures", lambda size: _bright(value))
    nothing: Any = None
    graphs = {"fp32": colour_graph(), "int8": colour_graph(0.5)}
    made = [Variant(None, name, nothing, nothing, nothing, graph, f"{name}.onnx") for name, graph in graphs.items()]
    return verify.show_outsiders(made, ("cpu",), (48, 64), 0.7)


def test_a_graph_that_answers_them_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _shown(monkeypatch, 250)
    assert found == {
        "passed": False,
        "pictures": 3,
        "ok": {"cpu.int8": 0, "cpu.fp32": 3},
        "kinds": {"one colour": 3},
    }
    assert "3 are answered with ok (3 one colour): the gate refuses this bundle" in outsiders.sentence(found)
    assert not records.gate({}, found)["passed"]
    assert len(CLASSES) == 3


def test_none_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    found = _shown(monkeypatch, 61)
    assert found["passed"] and found["kinds"] == {} and records.gate({}, found)["passed"]
    assert outsiders.sentence(found).endswith("none is answered with ok")
