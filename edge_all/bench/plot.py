"""The plot of accuracy over latency as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_all.bench.labels import measured_on
from edge_all.bench.rows import Row
from edge_all.errors import ToolchainError, install_hint
from edge_all.record import MachineRecord

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#e69f00", "#56b4e9", "#888888")
"""Told apart by colour-blind people too (Okabe and Ito, https://jfly.uni-koeln.de/color/)."""

MARKERS = {"cpu": "o", "openvino": "s", "gpu": "^"}
"""Shape of a target's points; a target that is not listed gets a diamond."""

FILLS = {"int8": ("full", "filled"), "fp16": ("left", "half filled"), "fp32": ("none", "open")}
"""How much of a point is filled, by precision, and the word for it."""

SIZE_INCHES, DPI = (8.5, 5.6), 160
"""With letters of 11 points these are read at half the size."""


def check_available() -> None:
    """Say whether matplotlib is there.

    Raises:
        ToolchainError: It is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ToolchainError(f"plots need matplotlib, which is not installed: {install_hint('plot')}") from None


def draw(rows: Sequence[Row], path: Path, machine: MachineRecord) -> None:
    """Draw every row, with the Pareto front: accuracy over median latency from bytes to label, on a logarithmic axis.

    The colour and a number stand for the bundle, the shape for the target, the fill for the precision.

    Args:
        rows: With ``pareto``.
        path: Where to write the PNG.
        machine: Of `edge_all.machine.describe`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"font.size": 11}):
        figure, axes = pyplot.subplots(figsize=SIZE_INCHES, dpi=DPI, layout="constrained")
        bundles = list(dict.fromkeys((row["bundle"], row["tap"]) for row in rows))
        has_front = _draw_front(axes, rows)
        for i, bundle in enumerate(bundles):
            of_bundle = [row for row in rows if (row["bundle"], row["tap"]) == bundle]
            _draw_points(axes, of_bundle, COLOURS[i % len(COLOURS)], str(i + 1) if len(bundles) > 1 else "")
        images = " / ".join(dict.fromkeys(measured_on(row["images"], row["accuracy_on"]) for row in rows))
        title = f"Latency on {machine['cpu']}, {machine['cores']} cores\nAccuracy on {images}"
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel("median latency from encoded bytes to label (ms)")
        axes.set_ylabel("accuracy (%)")
        _scale(axes, [row["latency_ms"]["p50"] for row in rows], [row["accuracy"] for row in rows])
        figure.legend(handles=_legend(rows, bundles, has_front), loc="outside lower center", ncols=2, frameon=False)
        figure.savefig(path, format="png")
        pyplot.close(figure)


def _draw_points(axes: Axes, rows: Sequence[Row], colour: str, number: str) -> None:
    """A bundle's points, with its number beside them; points that are close together share one."""
    numbered = 0.0
    for row in sorted(rows, key=lambda row: float(row["latency_ms"]["p50"])):
        place = row["latency_ms"]["p50"], row["accuracy"]
        axes.plot(*place, zorder=3, **_style(row["target"], row["precision"], colour))
        if place[0] > 1.2 * numbered:
            numbered = place[0]
            axes.annotate(
                number,
                place,
                textcoords="offset points",
                xytext=(0, 8),
                color=colour,
                weight="bold",
                ha="center",
                zorder=5,
            )


def _style(target: str, precision: str, colour: str) -> dict[str, Any]:
    return {
        "linestyle": "none", "marker": MARKERS.get(target, "D"), "markersize": 9, "markeredgewidth": 1.6,
        "color": colour, "fillstyle": FILLS[precision][0], "markerfacecoloralt": "white",
    }  # fmt: skip


def _draw_front(axes: Axes, rows: Sequence[Row]) -> bool:
    """The rows that no other row beats, joined; False if there is only one."""
    front = sorted((row["latency_ms"]["p50"], row["accuracy"]) for row in rows if row.get("pareto"))
    if len(front) > 1:
        axes.step(*zip(*front, strict=True), where="post", color="0.65", linewidth=1.5, zorder=1)
    return len(front) > 1


def _scale(axes: Axes, latencies: Sequence[float], accuracies: Sequence[float]) -> None:
    """Axes that have numbers however close the points are."""
    from matplotlib.ticker import FixedLocator, NullLocator

    steps = [digit * 10.0**power for power in range(-3, 5) for digit in (1, 2, 5)]
    low = max((step for step in steps if step <= min(latencies) / 1.05), default=min(latencies) / 2)
    high = min((step for step in steps if step >= max(latencies) * 1.05), default=max(latencies) * 2)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    margin = max(0.1 * (max(accuracies) - min(accuracies)), 0.5)
    axes.set_ylim(min(accuracies) - margin, max(accuracies) + margin)
    axes.grid(True, alpha=0.25)


def _legend(rows: Sequence[Row], bundles: Sequence[tuple[str, str]], has_front: bool) -> list[Artist]:
    """An entry for each bundle, target and precision that is drawn, and none for any other."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    numbers = [f"{i}  " if len(bundles) > 1 else "" for i in range(1, len(bundles) + 1)]
    entries: list[Artist] = [
        Patch(color=COLOURS[i % len(COLOURS)], label=f"{numbers[i]}{name} at {tap}")
        for i, (name, tap) in enumerate(bundles)
    ]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    entries += [Line2D([], [], label=target, **_style(target, "int8", "0.35")) for target in targets]
    entries += [
        Line2D([], [], label=f"{precision} ({word})", **_style(targets[0], precision, "0.35"))
        for precision, (_, word) in FILLS.items()
        if any(row["precision"] == precision for row in rows)
    ]
    if has_front:
        entries.append(Line2D([], [], color="0.65", linewidth=1.5, label="no other is as accurate and faster"))
    return entries
