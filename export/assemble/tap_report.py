"""The tap table and its plot, for people who want to see why a tap was chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_all.bench import plot
from edge_all.errors import BundleError


def check(folder: Path) -> None:
    """Say before the work begins what would stop `write` at its end.

    Raises:
        ToolchainError: matplotlib is not here.
        BundleError: The folder cannot be made.
    """
    plot.check_available()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"--report {folder}: cannot be written ({error.strerror}); give another folder") from None


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``taps.md``, ``taps.json`` and ``taps.png``.

    Args:
        folder: Where to.
        record: Of the bundle; its ``taps`` is not null.
    """
    taps = record["taps"]
    title = f"{record['backbone']}, {record['selector']} and {record['classifier']}"
    (folder / "taps.json").write_text(json.dumps(taps, indent=1) + "\n")
    (folder / "taps.md").write_text("\n".join([f"# Taps of {title}", "", *lines(taps)]) + "\n")
    draw(folder / "taps.png", taps, title)


def lines(taps: Mapping[str, Any]) -> list[str]:
    """The table in Markdown."""
    rows = [
        f"| {'**' + c['tap'] + '**' if c['tap'] == taps['chosen'] else c['tap']} | {c['features']} "
        f"| {c['macs'] / 1e6:.0f} | {c['ms']:.2f} | {c['accuracy']:.2f} | {c['worst']:.2f} | {c['worst_change']} |"
        for c in taps["candidates"]
    ]
    agreed = sum(name == taps["first_choice_without_fold"][0] for name in taps["first_choice_without_fold"])
    return [
        f"Accuracy in percent under `{taps['protocol']}` on {taps['images']} images, and under the worst change of the "
        f"battery on {taps['battery_images']} of them; time of the FP32 graph ({taps['target']}, milliseconds). "
        f"Preferred: {taps['prefer']}. Without the images of one fold each, the first choice is "
        f"{', '.join(sorted(set(taps['first_choice_without_fold'])))}"
        f"{' every time' if agreed == len(taps['first_choice_without_fold']) else ''}.",
        "",
        "| tap | features | million MACs | ms | accuracy | worst | under |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]


def draw(path: Path, taps: Mapping[str, Any], title: str) -> None:
    """Accuracy over time: each tap as it is, and a line down to its worst case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5.6), dpi=140, layout="constrained")
    for c in taps["candidates"]:
        chosen = c["tap"] == taps["chosen"]
        colour = "tab:red" if chosen else "tab:blue"
        axes.plot([c["ms"]] * 2, [c["worst"], c["accuracy"]], color=colour, linewidth=1, alpha=0.5)
        axes.plot(c["ms"], c["accuracy"], "o", color=colour)
        axes.plot(c["ms"], c["worst"], "v", color=colour, markerfacecolor="white")
        axes.annotate(
            c["tap"].replace("features.", "").replace(":std", ""), (c["ms"], c["accuracy"]), fontsize=7,
            textcoords="offset points", xytext=(4, 4), color=colour,
        )  # fmt: skip
    axes.plot([], [], "o", color="tab:blue", label="as they are")
    axes.plot([], [], "v", color="tab:blue", markerfacecolor="white", label="worst change")
    axes.plot([], [], "o", color="tab:red", label=f"chosen: {taps['chosen']}")
    axes.set_xlabel(f"FP32 graph, median ms for one image ({taps['target']})")
    axes.set_ylabel(f"accuracy under {taps['protocol']}, %")
    axes.set_title(f"Where to take features: {title}", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)
