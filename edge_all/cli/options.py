"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

TARGETS = ("cpu", "gpu", "openvino")  # edge_all.targets.TARGETS, which would import numpy for the sake of --help

PRECISIONS = ("fp32", "fp16", "int8")

PATH = click.Path(path_type=Path)


def threads(command: Command) -> Command:
    """``--threads N`` for one inference."""
    return click.option(
        "--threads", type=click.IntRange(min=1), help="Threads for one inference.  [default: the engine's choice]"
    )(command)


def device(command: Command) -> Command:
    """``--device`` of OpenVINO."""
    return click.option("--device", help="OpenVINO device: CPU, GPU or NPU.  [default: CPU]")(command)
