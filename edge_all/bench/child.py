"""The process of a row as the command sees it: it loads the bundle at once, and measures when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from types import TracebackType
from typing import IO, cast

from edge_all.bench.rows import Figures, Job, Reply
from edge_all.errors import EdgeAllError, TargetError


class Child:
    """``edge_all.bench.worker`` in a new interpreter; it ends when this object is closed, or with the command.

    Raises:
        EdgeAllError: What went wrong in the process; one that died is a `TargetError`.
    """

    def __init__(self, job: Job) -> None:
        self._name = f"{job['bundle']}: {job['target']} {job['precision']}"
        self._stderr = _temporary()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_all.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr or subprocess.DEVNULL,
            text=True,
        )
        try:
            self._ask(job)
        except BaseException:
            self.close()
            raise

    def turn(self, seconds: float) -> float:
        """Measure for about this long; return the part of the row's work that is done, 1 for all of it."""
        return self._ask({"turn": seconds})["share"]

    def finish(self) -> tuple[Figures, list[int]]:
        """The row's figures, and the number of each file's class, -1 for a file that could not be classified."""
        reply = self._ask({"finish": True})
        return reply["figures"], list(reply["answers"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        if self._stderr:
            self._stderr.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, message: Mapping[str, object]) -> Reply:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:  # the pipe is closed
            line = ""
        if not line:
            code = self._process.wait()
            raise TargetError(f"{self._name} died while it was measured (exit {code}): {self._last_line()}")
        reply = cast(Reply, json.loads(line))
        if "error" in reply:
            raise EdgeAllError(reply["error"])
        return reply

    def _last_line(self) -> str:
        """The last that the process said on stderr."""
        if not self._stderr:
            return "no message"
        self._stderr.seek(0)
        return (self._stderr.read().strip().splitlines() or ["no message"])[-1]


def _temporary() -> IO[str] | None:
    """A file for what the process says on stderr; None where there is no place for one."""
    try:
        return tempfile.TemporaryFile("w+")
    except OSError:
        return None
