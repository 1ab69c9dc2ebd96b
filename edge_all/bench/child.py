"""A row's process, seen from the command: it loads at once, and measures when it is told to."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any

from edge_all.errors import EdgeAllError, TargetError


class Child:
    """``edge_all.bench.worker`` in a fresh interpreter; it ends when this does, or when its stdin is closed.

    Raises:
        EdgeAllError: What went wrong there; a process that died is a `TargetError`.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._name = f"{job['bundle']}: {job['target']} {job['precision']}"
        self._complaints = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_all.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            text=True,
        )
        try:
            self._ask(job)
        except BaseException:
            self.close()
            raise

    def turn(self, seconds: float) -> float:
        """Measure for about so long; gives the share of what the row wants that is done, 1 when that is enough."""
        return float(self._ask({"turn": seconds})["share"])

    def finish(self) -> dict[str, Any]:
        """The row."""
        return dict(self._ask({"finish": True})["row"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._complaints.seek(0)
            last = (self._complaints.read().strip().splitlines() or ["no message"])[-1]
            raise TargetError(f"{self._name} died while it was measured (exit {code}): {last}")
        answer = dict(json.loads(line))
        if "error" in answer:
            raise EdgeAllError(answer["error"])
        return answer
