"""Fixtures that several files use, one core for each worker of pytest-xdist, and the times that each marker takes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_bundle import CLASSES, colour_picture, write_colour_bundle
from helpers_command import Command, run_here, run_program
from PIL import Image

from edge_all.bundle import Bundle

MARKERS = ("slow", "engine", "real_data")


def pytest_configure(config: pytest.Config) -> None:
    """Give each worker of pytest-xdist a core of its own, and all of them one cache, which is not the user's."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        os.environ["EDGE_ALL_CACHE"] = tempfile.mkdtemp(prefix="edge-all-tests-")
        config.add_cleanup(partial(shutil.rmtree, os.environ["EDGE_ALL_CACHE"]))
    if worker.startswith("gw") and sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no worker of pytest-xdist ends with one while the others wait."""
    items.sort(key=lambda item: -sum(item.get_closest_marker(name) is not None for name in ("real_data", "slow")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests of each marker took; a test with two markers counts for both."""
    seconds: dict[str, float] = defaultdict(float)
    tests: dict[str, set[str]] = defaultdict(set)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                for marker in [name for name in MARKERS if name in report.keywords] or ["none"]:
                    seconds[marker] += report.duration
                    tests[marker].add(report.nodeid)
    terminalreporter.section("seconds by marker")
    for marker in (*MARKERS, "none"):
        terminalreporter.line(f"{marker:<10}{seconds[marker]:8.1f} s {len(tests[marker]):5d} tests")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set of 12 images a class, which no test changes; random features tell half of its images apart."""
    from edge_all.export.dataset.synthetic import draw

    return draw(tmp_path_factory.mktemp("drawn"), per_class=12)


@pytest.fixture(scope="session")
def tinted(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn data set, three classes in a colour of their own: random features tell all images apart.

    What is exported from it passes the gate with the first scheme.
    """
    root = tmp_path_factory.mktemp("tinted")
    for k, folder in enumerate(sorted(drawn.iterdir())):
        (root / folder.name).mkdir()
        gains = np.where(np.arange(3) == k - 1, 0.6, 1.0)
        for file in sorted(folder.iterdir()):
            pixels = np.asarray(Image.open(file)) * gains
            Image.fromarray(pixels.astype(np.uint8)).save(root / folder.name / file.name, quality=95)
    return root


@pytest.fixture
def colour_bundle(tmp_path: Path) -> Bundle:
    """A whole bundle around a graph that names the strongest colour channel."""
    return write_colour_bundle(tmp_path / "colour")


@pytest.fixture
def coloured_folder(tmp_path: Path) -> Path:
    """Four pictures a class, in one folder a class."""
    root = tmp_path / "data"
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(4):
            colour_picture(2 - k, seed=10 * k + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are the benchmarks' affair: every INT8 graph is said to take half the time of FP32's."""
    from edge_all.export.graph import timing

    monkeypatch.setattr(timing, "times", lambda target, graphs: [2.0] + [1.0] * (len(graphs) - 1))


@pytest.fixture
def edge_all(tmp_path: Path) -> Command:
    """The command, run in `tmp_path` by this process."""
    return partial(run_here, cwd=tmp_path)


@pytest.fixture
def edge_all_program(tmp_path: Path) -> Command:
    """The installed command, run in `tmp_path` as a program."""
    return partial(run_program, cwd=tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle that `address` serves."""
    return write_colour_bundle(tmp_path_factory.mktemp("served") / "colour")


@pytest.fixture(scope="module")
def address(served: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that answers all tests of a file."""
    from helpers_serve import serving

    with serving(served, tmp_path_factory.mktemp("journal") / "journal.sqlite") as url:
        yield url


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    """A client of this server."""
    import httpx

    with httpx.Client(base_url=address, timeout=20) as opened:
        yield opened


@pytest.fixture
def adapters() -> None:
    """Micro-Manager and its demo camera."""
    pytest.importorskip("pymmcore_plus", reason="the extra camera is not installed")
    pytest.importorskip("mm_test_adapters", reason="mm-test-adapters, Micro-Manager's demo camera, is not installed")
