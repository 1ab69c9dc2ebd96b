"""What exact rewrites of quantized graphs save: python benchmarks/rewrites.py NAME=TAP[=WEIGHTS]... --data DIR

Each backbone is quantized up to the tap, and its features are timed as they are and with the picture folded in each way
(`edge_all.export.quantize.stem`), in both engines, in turns.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
from quantized import quantized

from edge_all import machine
from edge_all.export.graph import timing
from edge_all.export.quantize import stem

ENGINES = ("cpu", "openvino")


@dataclass(frozen=True)
class Row:
    """A backbone in an engine, with a folded picture.

    Attributes:
        backbone: Its name.
        tap: Where its features are taken.
        engine: ``cpu`` (ONNX Runtime) or ``openvino``.
        form: A key of `stem.FORMS`.
        plain_ms: Median of the medians of all rounds.
        folded_ms: Likewise, with a folded picture.
        ratio: Median of the rounds' ratios, folded to plain.
        least: The smallest of them.
        most: The largest.
    """

    backbone: str
    tap: str
    engine: str
    form: str
    plain_ms: float
    folded_ms: float
    ratio: float
    least: float
    most: float

    def as_text(self) -> str:
        """A line of a Markdown table."""
        names = f"{self.backbone} | {self.tap} | {self.engine} | {self.form}"
        return f"| {names} | {self.plain_ms:.3f} | {self.folded_ms:.3f} | {self.ratio:.3f} |"


@click.command(help=__doc__)
@click.argument("cases", nargs=-1, required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True, help="One folder for each class.")
@click.option("--images", default=32, show_default=True, help="For calibration.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--json", "report", type=click.Path(path_type=Path), help="Write the figures to a file.")
def main(cases: tuple[str, ...], data: Path, images: int, rounds: int, report: Path | None) -> None:
    """Print a Markdown table."""
    rows = []
    click.echo("| backbone | tap | engine | form | plain ms | folded ms | ratio |\n|---|---|---|---|---|---|---|")
    for case in cases:
        name, tap, plain = quantized(case, data, images)
        forms = {form: made for form, fold in stem.FORMS.items() if (made := fold(plain))}
        for engine in ENGINES:
            taken = np.array([timing.times(engine, [plain, *forms.values()]) for _ in range(rounds)])
            for i, form in enumerate(forms, 1):
                rows.append(_row((name, tap, engine, form), taken[:, 0], taken[:, i]))
                click.echo(rows[-1].as_text())
    if report:
        content = {"machine": machine.describe(), "rounds": rounds, "rows": [asdict(row) for row in rows]}
        report.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _row(names: tuple[str, str, str, str], plain: np.ndarray, folded: np.ndarray) -> Row:
    """The figures of some rounds' milliseconds."""
    ratios = folded / plain
    return Row(
        *names,
        *(float(each) for each in (np.median(plain), np.median(folded), np.median(ratios), ratios.min(), ratios.max())),
    )


if __name__ == "__main__":
    main()
