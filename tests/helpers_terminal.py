"""The `edge-all` command on a terminal, as a person sees it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = "from edge_all.cli import bar, main; bar.DELAY_SECONDS = {delay}; main()"


def run_on_terminal(
    *words: object, cwd: Path, columns: int = 80, delay: float = 2.0, stdout: Path | None = None
) -> tuple[int, str]:
    """Run the command with stdin, stdout and stderr on a terminal of its own.

    Args:
        *words: The command's arguments.
        cwd: Where it runs.
        columns: Width that the environment gives.
        delay: Seconds after which progress is shown.
        stdout: A file that stdout goes to; None is the terminal.

    Returns:
        The exit status, and all that the terminal got, with its control sequences.
    """
    pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX")
    ours, terminal = pty.openpty()
    output = open(stdout, "wb") if stdout else terminal  # noqa: SIM115 - closed below
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-c", _PROGRAM.format(delay=delay), *map(str, words)]
    child = subprocess.Popen(command, stdin=terminal, stdout=output, stderr=terminal, cwd=cwd, env=environment)
    os.close(terminal)
    if stdout:
        output.close()
    got = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the last program has closed the terminal
            break
        if not part:
            break
        got += part
    os.close(ours)
    return child.wait(), got.decode()


def lines(text: str) -> list[str]:
    """What stays on the terminal, a line each: a bar that is drawn again over itself leaves its last form."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line.rsplit("\r", 1)[-1] for line in plain.replace("\r\n", "\n").split("\n")]
