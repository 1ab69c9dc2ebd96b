"""The `edge-all` command: in this process, which is fast, and as the program that a user starts."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from edge_all.cli import cli

Command = Callable[..., subprocess.CompletedProcess[str]]
"""Runs `edge-all` with the words given to it."""

PROGRAM = str(Path(sys.executable).with_name("edge-all"))
"""The installed command."""

SMALL = ("--backbone", "mobilenetv2", "--weights", "random", "--tap", "features.4", "--resize", "64x64")
"""Options of `export` and `study` for a backbone that is made, run and quantized in seconds."""

_SEPARATE: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
"""Before click 8.2 stderr is part of stdout without this."""

_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()


def run_here(*words: object, cwd: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    """Run the command in this process; an exception that it would show as a traceback is raised."""
    with contextlib.chdir(cwd):
        result = CliRunner(**_SEPARATE).invoke(cli, [*map(str, words)], input=stdin, prog_name="edge-all")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return subprocess.CompletedProcess([], result.exit_code, result.stdout, result.stderr)


def run_program(*words: object, cwd: Path, timeout: float = 120, **changed: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own.

    Args:
        *words: Its arguments.
        cwd: Where it runs.
        timeout: Seconds after which it is killed.
        **changed: Environment variables.
    """
    with every_core():
        done = subprocess.run(
            [PROGRAM, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env=os.environ | changed,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextlib.contextmanager
def every_core() -> Iterator[None]:
    """Let a program that is started here use all cores, although a worker of pytest-xdist has one of its own."""
    if sys.platform != "linux" or not _CORES:
        yield
        return
    here = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    try:
        yield
    finally:
        os.sched_setaffinity(0, here)
