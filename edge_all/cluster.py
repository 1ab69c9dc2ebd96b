"""Ray, started on this machine or found where it runs (https://docs.ray.io)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from edge_all.errors import EdgeAllError, in_one_line, install_hint

_OBJECTS = 200_000_000
"""Bytes of memory for what workers hand on, on a machine where Ray is started for this."""

_TELLS_NOBODY = ("RAY_USAGE_STATS_ENABLED", "0")
"""By default Ray sends its makers statistics of use. What is started here does not, unless the user asks for it."""

_TELLS_NO_WORK = ("RAY_DATA_USAGE_DISABLED", "1")
"""Nor does a cluster that is there already tell them of this work; Ray Data would start a process to gather that."""

_SECONDS = 10.0
"""In which a cluster must take a connection."""


def check_extra(address: str) -> None:
    """Check that Ray is installed.

    Raises:
        EdgeAllError: It is not.
    """
    if not find_spec("ray"):
        raise EdgeAllError(f"--address {address}: clusters take an extra: {install_hint('cluster')}")


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, connected for as long as the context lasts; a process that was connected before stays so.

    Args:
        address: Of the cluster, as Ray takes it; None starts Ray on this machine, and ends it.

    Raises:
        EdgeAllError: There is no cluster at the address.
    """
    if address is None:
        os.environ.setdefault(*_TELLS_NOBODY)
    os.environ.setdefault(*_TELLS_NO_WORK)
    ray: Any = import_module("ray")  # its types need not be there for checking this file
    own = not ray.is_initialized()
    if own:
        _check_reachable(address)
        local: dict[str, Any] = {} if address else {"object_store_memory": _OBJECTS, "include_dashboard": False}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _no_cluster(address, error) from None
    try:
        yield ray
    finally:
        if own:
            ray.shutdown()


def cores(ray: Any) -> int:
    """Cores of all machines of a connected cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _check_reachable(address: str | None) -> None:
    """Whether something listens there: Ray itself would try for ever."""
    host, _, port = (address or "").rpartition(":")
    if not host:
        return  # "auto", or none
    try:
        socket.create_connection((host.rpartition("/")[2], int(port)), timeout=_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str | None, error: Exception) -> EdgeAllError:
    return EdgeAllError(
        f"--address {address}: no Ray cluster answers there ({in_one_line(error)[:160]}); wanted HOST:PORT, or auto "
        "for this machine's (`ray start --head`)"
    )
