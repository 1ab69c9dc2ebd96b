"""What a value in ``bundle.json`` may be beyond its type: the annotations that `edge_all.record` gives its fields."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

PRECISIONS = ("fp32", "fp16", "int8")

LARGEST = 2**53
"""No number of a record is farther from 0: up to here, every program reads an integer of JSON exactly."""


ROUNDING = 1e-6
"""How far beyond a limit a number may be: probabilities in float32 can be a little more than 1."""


@dataclass(frozen=True)
class Range:
    """A number from `least` to `most`."""

    least: float
    most: float

    def problem(self, value: float) -> str:
        fits = self.least - ROUNDING <= value <= self.most + ROUNDING
        return "" if fits else f"wanted {self.least} to {self.most}"

    def schema(self) -> dict[str, object]:
        """The limit in words of JSON Schema."""
        return {"minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Length:
    """A list of `least` to `most` values; with `unique` no text is in it twice, however its accents are written."""

    least: int
    most: int
    unique: bool = False

    def problem(self, value: Sequence[str]) -> str:
        if not self.least <= len(value) <= self.most:
            return f"wanted {self.least} to {self.most} values"
        if self.unique and len({unicodedata.normalize("NFC", text) for text in value}) < len(value):
            return "wanted values that differ"
        return ""

    def schema(self) -> dict[str, object]:
        schema: dict[str, object] = {"minItems": self.least, "maxItems": self.most}
        return schema | ({"uniqueItems": True} if self.unique else {})


@dataclass(frozen=True)
class Pattern:
    """A text that is described by a regular expression, and can be printed."""

    expression: str

    def problem(self, value: str) -> str:
        fits = value.isprintable() and re.fullmatch(self.expression, value)
        return "" if fits else f"wanted a printable text like {self.expression}"

    def schema(self) -> dict[str, object]:
        return {"pattern": f"^{self.expression}$"}


Limit = Range | Length | Pattern

Side = Annotated[int, Range(32, 2048)]
"""Height or width of a graph's input, in pixels."""

Run = Annotated[int, Range(2, 1000)]
"""How many fields are judged together."""

Percent = Annotated[float, Range(0, 100)]

Share = Annotated[float, Range(0, 1)]

Count = Annotated[int, Range(0, LARGEST)]

FileSize = Annotated[int, Range(0, 2**31)]
"""In bytes; ONNX has no larger files."""

Name = Annotated[str, Pattern(r"\S(.{0,198}\S)?")]
"""A name that is shown to people."""

Names = Annotated[Sequence[Name], Length(2, 1000, unique=True)]
"""Names of classes."""

SomeNames = Annotated[Sequence[Name], Length(1, 1000, unique=True)]
"""Names of some of the classes."""

Interval = Annotated[Sequence[Percent], Length(2, 2)]
"""Lower and upper limit of a figure."""

Size = Annotated[Sequence[Side], Length(2, 2)]
"""Height and width, in pixels."""

MEASURES = 15
"""How many numbers `edge_all.input_check` measures of a picture."""

Measures = Annotated[Sequence[float], Length(MEASURES, MEASURES)]
"""A value for each of them."""

Channels = Annotated[Sequence[float], Length(3, 3)]
"""Values for red, green and blue."""

Sha256 = Annotated[str, Pattern("[0-9a-f]{64}")]
