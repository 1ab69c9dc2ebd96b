"""The accuracy-latency plane as a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_all.errors import ToolchainError

_MARKERS = {"cpu": "o", "openvino": "s", "gpu": "^"}


def check_available() -> None:
    """Say whether matplotlib is there.

    Raises:
        ToolchainError: It is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise ToolchainError('--plot needs matplotlib, which is not here: pip install "edge-all[plot]"') from None


def draw(rows: Sequence[dict[str, Any]], path: Path, machine: dict[str, Any]) -> None:
    """Draw every row, with the Pareto front: accuracy over median latency from bytes to label, on a logarithmic axis.

    Colour is the bundle, shape the target, and filled is quantized.

    Args:
        rows: With ``pareto``.
        path: Where to write the PNG.
        machine: Of `edge_all.machine.describe`.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, axes = pyplot.subplots(figsize=(9, 5.6), dpi=140, layout="constrained")
    names = list(dict.fromkeys((row["bundle"], row["tap"]) for row in rows))
    colours = {name: pyplot.get_cmap("tab10")(i % 10) for i, name in enumerate(names)}
    front = sorted((row for row in rows if row["pareto"]), key=lambda row: row["latency_ms"]["p50"])
    axes.step(
        [row["latency_ms"]["p50"] for row in front], [row["accuracy"] for row in front],
        where="post", color="0.7", linewidth=1.2, zorder=1,
    )  # fmt: skip
    for row in rows:
        colour = colours[row["bundle"], row["tap"]]
        axes.plot(
            row["latency_ms"]["p50"], row["accuracy"], linestyle="none", marker=_MARKERS.get(row["target"], "D"),
            markersize=9, color=colour, markerfacecolor="white" if row["precision"] == "fp32" else colour, zorder=3,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("median latency, encoded bytes to label (ms)")
    axes.set_ylabel("accuracy (%)")
    axes.grid(True, which="both", alpha=0.25)
    measured_on = " / ".join(dict.fromkeys(f"{row['images']} {row['accuracy_on']}" for row in rows))
    axes.set_title(
        f"Accuracy on {measured_on}\n{machine['cpu']}, {machine['cores']} cores\n"
        f"{' '.join(machine['instruction_sets'])}",
        fontsize=9,
        loc="left",
    )
    legend = [
        Line2D([], [], color=colours[name], marker="o", linestyle="none", label=f"{name[0]} at {name[1]}")
        for name in names
    ]
    legend += [
        Line2D([], [], color="0.3", marker=marker, linestyle="none", label=target)
        for target, marker in _MARKERS.items()
        if any(row["target"] == target for row in rows)
    ]
    legend += [
        Line2D([], [], color="0.3", marker="o", linestyle="none", label="quantized"),
        Line2D([], [], color="0.3", marker="o", markerfacecolor="white", linestyle="none", label="fp32"),
        Line2D([], [], color="0.7", label="Pareto front"),
    ]
    axes.legend(handles=legend, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(path, format="png")
    pyplot.close(figure)
