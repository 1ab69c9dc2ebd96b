"""What a search for INT8 tries, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_all.record import TargetVerdict, Times, Tried

from .heads import EvaluatedHead, QuantizedPair
from .schemes import Scheme


@dataclass(frozen=True)
class Attempt:
    """A quantized backbone with its best head.

    Attributes:
        scheme: How it was quantized.
        pair: The graphs; the first ships.
        head: Of the heads that were tried, the one that loses least.
        graph_ms: Median time of the backbone for one image, FP32's and this one's, alternating, in milliseconds; None
            where the target is not on this machine.
    """

    scheme: Scheme
    pair: QuantizedPair
    head: EvaluatedHead
    graph_ms: tuple[float, float] | None

    @property
    def accurate(self) -> bool:
        """The gate passed."""
        return self.head.verdict["passed"]

    @property
    def passed(self) -> bool:
        """The gate passed and the graph is faster than FP32."""
        return self.accurate and (self.graph_ms is None or self.graph_ms[1] < self.graph_ms[0])

    @property
    def times(self) -> Times:
        """For the bundle's record."""
        fp32, int8 = (round(ms, 3) for ms in self.graph_ms) if self.graph_ms else (None, None)
        return {"fp32_graph_ms": fp32, "graph_ms": int8}

    @property
    def name(self) -> str:
        return self.scheme.name if self.head.kind == "fp32" else f"{self.scheme.name}, head {self.head.kind}"


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes:
        best: What ships if it passed; else the attempt that lost least, and None where no scheme gave a graph.
        tried: A record for each scheme and head: what was lost, or why it failed.
    """

    best: Attempt | None
    tried: Sequence[Tried]

    @property
    def shipped(self) -> Attempt | None:
        return self.best if self.best and self.best.passed else None

    @property
    def verdict(self) -> TargetVerdict:
        """For the bundle's record: what ships, or the attempt that lost least, and all that was tried."""
        passed = self.shipped is not None
        if self.best is None:
            return {"passed": passed, "tried": self.tried}
        gate = self.best.head.verdict
        return {
            "passed": passed,
            "scheme": self.best.scheme.name,
            "head": self.best.head.kind,
            **self.best.times,
            "protocol": gate["protocol"],
            "lost": gate["lost"],
            "allowed": gate["allowed"],
            "worst_class": gate["worst_class"],
            "tried": self.tried,
        }
