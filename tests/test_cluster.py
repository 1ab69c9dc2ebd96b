"""Ray as the commands start it or find it."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import pytest

from edge_all import cluster


class FakeRay(ModuleType):
    """Records what it is started with, and what the environment said then."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.started: list[dict[str, Any]] = []
        self.told: list[tuple[str | None, str | None]] = []

    def is_initialized(self) -> bool:
        return False

    def init(self, **given: Any) -> None:
        self.started.append(given)
        self.told.append((os.environ.get("RAY_USAGE_STATS_ENABLED"), os.environ.get("RAY_DATA_USAGE_DISABLED")))

    def shutdown(self) -> None:
        self.started.append({})


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    fake = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setattr(os, "environ", {key: value for key, value in os.environ.items() if "RAY_" not in key})
    return fake


def test_ray_that_is_started_here_tells_nobody(ray: FakeRay) -> None:
    with cluster.connected(None):
        pass
    assert ray.told == [("0", "1")] and ray.started[-1] == {}


def test_the_user_may_let_it_tell(ray: FakeRay) -> None:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "1", "RAY_DATA_USAGE_DISABLED": "0"}
    with cluster.connected(None):
        pass
    assert ray.told == [("1", "0")]


def test_a_cluster_that_is_there_is_as_its_owner_set_it_and_is_told_of_no_work(ray: FakeRay) -> None:
    with cluster.connected("auto"):
        pass
    assert ray.told == [(None, "1")]
