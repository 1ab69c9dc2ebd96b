"""The report's plots, each a PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.metrics import confusion_matrix

from edge_all import protocols
from edge_all.bench import verdict

from ...head.familiarity import COVERAGE
from .. import metrics
from ..curves import TRAININGS, Curves
from ..deployed import Deployed
from ..table import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

LEAST_IN_BIN = 10
"""Images that a bin of the reliability diagram must have to be drawn."""

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_GREY = "0.7"
_LEAST_WRONG = 0.05  # percent: where all answers are right, on a logarithmic axis of errors
_WRONG_TICKS = (0.1, 0.2, 0.3, 0.5, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90)
_FEW_POINTS = 50  # a curve with fewer points has each of them marked


@contextmanager
def figure(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[tuple[Figure, list[list[Axes]]]]:
    """A figure of `size` inches and its axes by row and column, saved and closed at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(rows, columns, figsize=size, dpi=130, layout="constrained", squeeze=False)
    try:
        yield drawn, axes.tolist()
        path.parent.mkdir(exist_ok=True)
        drawn.savefig(path)
    finally:
        pyplot.close(drawn)


def heat_map(path: Path, rows: Sequence[Row], protocol: str, span: tuple[float, float]) -> None:
    """Accuracy of every pipeline under one protocol: a panel a backbone, selectors by classifiers.

    Colours follow the logarithm of the share of wrong answers, so that 60, 88, 96 and 98 % differ alike.

    Args:
        path: The PNG.
        rows: The table.
        protocol: Which.
        span: Lowest and highest accuracy, in percent: the ends of the colours, the same for all protocols.
    """
    from matplotlib.colors import LogNorm

    cells = {row.cell: row.scores.accuracy for row in rows if row.cell.protocol == protocol}
    backbones = sorted({cell.backbone for cell in cells})
    selectors = sorted({cell.selector for cell in cells})
    classifiers = sorted({cell.classifier for cell in cells})
    fewest, most = _wrong(span[1]), max(_wrong(span[0]), 1.05 * _wrong(span[1]))
    size = (2.6 + 2.3 * len(backbones), 1.4 + 0.5 * max(len(selectors), 3))
    with figure(path, 1, len(backbones), size) as (drawn, axes):
        for panel, backbone in zip(axes[0], backbones, strict=True):
            accuracy = np.full((len(selectors), len(classifiers)), np.nan)
            for cell, value in cells.items():
                if cell.backbone == backbone:
                    accuracy[selectors.index(cell.selector), classifiers.index(cell.classifier)] = value
            wrong = np.clip(100 - accuracy, _LEAST_WRONG, 100)
            image = panel.imshow(wrong, norm=LogNorm(fewest, most), cmap="viridis_r", aspect="auto")
            _write_in_cells(panel, image, [["" if np.isnan(v) else f"{v:.1f}" for v in line] for line in accuracy])
            panel.set_title(backbone, fontsize=9)
            panel.set_xticks(range(len(classifiers)), classifiers, fontsize=7, rotation=30, ha="right")
            panel.set_yticks(range(len(selectors)), selectors if panel is axes[0][0] else [], fontsize=7)
        bar = drawn.colorbar(image, ax=axes[0], label=f"accuracy under {protocol}, %")
        ticks = [tick for tick in _WRONG_TICKS if fewest <= tick <= most]
        ticks = ticks if len(ticks) > 1 else [fewest, most]
        bar.set_ticks(ticks, labels=[f"{100 - tick:.4g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.invert_yaxis()


def confusion(path: Path, labels: np.ndarray, probabilities: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Confusion matrices by protocol: numbers of images, coloured by their share of the true class."""
    with figure(path, 1, len(probabilities), (3.2 * len(probabilities) + 0.9, 3.3)) as (drawn, axes):
        for panel, (protocol, of_images) in zip(axes[0], probabilities.items(), strict=True):
            counts = confusion_matrix(labels, of_images.argmax(1), labels=range(len(classes)))
            share = 100 * counts / counts.sum(1, keepdims=True).clip(1)
            image = panel.imshow(share, cmap="Blues", vmin=0, vmax=100)
            _write_in_cells(panel, image, counts.astype(str).tolist())
            panel.set_title(protocol, fontsize=9)
            panel.set_xticks(range(len(classes)), classes, fontsize=8, rotation=30, ha="right")
            panel.set_yticks(range(len(classes)), classes if panel is axes[0][0] else [], fontsize=8)
            panel.set_xlabel("predicted class", fontsize=8)
        axes[0][0].set_ylabel("true class", fontsize=8)
        drawn.colorbar(image, ax=axes[0], label="share of the true class, %")


def reliability(path: Path, labels: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> None:
    """Accuracy over the largest probability, in bins of `LEAST_IN_BIN` images or more, by pipeline."""
    with figure(path, 1, 1, (5, 5.4)) as (drawn, axes):
        panel = axes[0][0]
        panel.plot([0, 1], [0, 1], color=_GREY, linewidth=1, label="perfectly calibrated")
        for i, (title, of_images) in enumerate(probabilities.items()):
            bins = metrics.reliability(labels, of_images)
            filled = [(x, y, share) for x, y, share in bins if round(share * len(labels)) >= LEAST_IN_BIN]
            if not filled:
                continue
            confidence, accuracy, shares = np.array(filled).T
            error = metrics.calibration_error(labels, of_images)
            colour = _COLOURS[i % len(_COLOURS)]
            panel.plot(confidence, accuracy, ".-", color=colour, linewidth=1, label=f"{title}: ECE {error:.3f}")
            panel.scatter(confidence, accuracy, s=6 + 200 * shares, color=colour, alpha=0.6)
        panel.set_xlabel("largest probability")
        panel.set_ylabel("share of right answers")
        panel.set_xlim(0.2, 1.02)
        panel.set_ylim(0, 1.03)
        panel.grid(alpha=0.25)
        drawn.legend(fontsize=7, loc="outside lower center")


def risk_coverage(path: Path, labels: np.ndarray, probabilities: Mapping[str, np.ndarray]) -> None:
    """Share of wrong answers over the share of images that are answered, the least certain referred first."""
    with figure(path, 1, 1, (5.6, 4.2)) as (_, axes):
        panel = axes[0][0]
        panel.axvline(COVERAGE, color=_GREY, linewidth=1, label=f"{COVERAGE:g} % answered")
        for i, (title, of_images) in enumerate(probabilities.items()):
            confidence = of_images.max(1)
            order = np.argsort(-confidence, kind="stable")
            wrong = (of_images.argmax(1) != labels)[order]
            answered = np.arange(1, len(labels) + 1)
            # Images of the same probability are answered or referred together.
            last = np.append(np.diff(confidence[order]) != 0, True) & (answered > 0.3 * len(labels))
            panel.plot(
                (100 * answered / len(labels))[last], (100 * np.cumsum(wrong) / answered)[last],
                ".-" if last.sum() < _FEW_POINTS else "-", color=_COLOURS[i % len(_COLOURS)], label=title,
            )  # fmt: skip
        panel.set_xlabel("images answered, %")
        panel.set_ylabel("wrong among the answers, %")
        panel.legend(fontsize=7)
        panel.grid(alpha=0.25)


def curves(path: Path, measured: Curves) -> None:
    """Accuracy over the level of each change, a panel a curve."""
    titles = {"plain": "trained on the images as they are", "augmented": f"and on {measured['copies']} changed copies"}
    across, count = 5, len(measured["curves"])
    down = -(-count // across)
    lowest = min(point[key] for points in measured["curves"].values() for point in points for key in TRAININGS)
    with figure(path, down, across, (2.7 * across, 2.5 * down + 0.3)) as (drawn, axes):
        panels = [panel for line in axes for panel in line]
        for panel, (title, points) in zip(panels, measured["curves"].items(), strict=False):
            levels = range(len(points))
            for training, colour in zip(TRAININGS, ("tab:orange", "tab:blue"), strict=True):
                accuracy = [point[training] for point in points]
                panel.plot(levels, accuracy, "o-", markersize=3, color=colour, label=titles[training])
            named = ["no", "yes"] if title == "mirrored" else [f"{point['level']:g}" for point in points]
            panel.set_xticks(levels, named)
            panel.set_title(title, fontsize=8)
            panel.set_ylim(lowest - 2, 101)
            panel.tick_params(labelsize=7)
            panel.grid(alpha=0.25)
        for line in axes:
            line[0].set_ylabel("accuracy, %", fontsize=8)
        for panel in panels[count:]:
            panel.set_axis_off()
        drawn.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=2)


def plane(path: Path, rows: Sequence[Row], deployed: Sequence[Deployed]) -> None:
    """Accuracy over the graph's time, both logarithmic: pipelines in FP32, and in INT8 those that were exported."""
    timed = [(row.cell, row.graph_ms, row.scores.accuracy) for row in rows if row.graph_ms is not None]
    colours = _by_name(sorted({cell.backbone for cell, _, _ in timed}), _COLOURS)
    markers = _by_name(sorted({cell.classifier for cell, _, _ in timed}), _MARKERS)
    with figure(path, 1, 1, (8.6, 5)) as (drawn, axes):
        panel = axes[0][0]
        unbeaten = verdict.pareto([(accuracy, ms) for _, ms, accuracy in timed])
        front = sorted((ms, _wrong(accuracy)) for (_, ms, accuracy), best in zip(timed, unbeaten, strict=True) if best)
        times, wrong = zip(*front, strict=True)
        panel.step(times, wrong, where="post", color=_GREY, linewidth=1, label="none is better and faster")
        for cell, ms, accuracy in timed:
            marker, colour = markers[cell.classifier], colours[cell.backbone]
            panel.plot(ms, _wrong(accuracy), marker, color=colour, markersize=5, alpha=0.7)
        for backbone, colour in colours.items():
            panel.plot([], [], "o", color=colour, label=backbone)
        for classifier, marker in markers.items():
            panel.plot([], [], marker, color="0.5", label=classifier)
        stars = _int8(deployed)
        for backbone, ms, accuracy in stars:
            panel.plot(ms, _wrong(accuracy), "*", color=colours[backbone], markersize=15, markeredgecolor="black")
        if stars:
            label = "INT8, time of the backbone"
            panel.plot([], [], "*", color="white", markeredgecolor="black", markersize=12, label=label)
        _scale_axes(panel)
        panel.set_xlabel("median time for one image, ms: FP32 graph, OpenVINO, the study's machine")
        panel.set_ylabel(f"accuracy under {rows[0].cell.protocol}, %")
        panel.grid(alpha=0.25)
        drawn.legend(fontsize=7, loc="outside right center")


def _int8(deployed: Sequence[Deployed]) -> list[tuple[str, float, float]]:
    """Backbone, milliseconds and accuracy under the headline protocol of each INT8 pipeline that ships for OpenVINO."""
    stars = []
    for exported in deployed:
        times, score = (
            exported["graph_ms"].get("openvino"),
            exported["metrics"][protocols.headline(exported["metrics"])].get("int8"),
        )
        if times and times["passed"] and times["int8"] and score and "openvino" in score["targets"]:
            backbone = exported["pipeline"].split("-")[0]
            stars.append((backbone, times["int8"], score["targets"]["openvino"]["accuracy"]))
    return stars


def _scale_axes(panel: Axes) -> None:
    """Milliseconds and wrong answers on logarithmic axes, with room around the points and accuracy at the ticks."""
    from matplotlib import ticker

    panel.set_xscale("log")
    panel.set_yscale("log")
    low, high = panel.get_xlim()
    panel.set_xlim(low / _room(low, high), high * _room(low, high))
    low, high = panel.get_ylim()
    panel.set_ylim(low / _room(low, high), min(high * _room(low, high), 100))
    panel.invert_yaxis()
    panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_locator(ticker.FixedLocator(_WRONG_TICKS))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(ticker.NullLocator())
    panel.xaxis.set_major_formatter(lambda ms, position: f"{ms:g}")
    panel.yaxis.set_major_formatter(lambda wrong, position: f"{100 - wrong:.4g}")


def _room(low: float, high: float) -> float:
    """Factor to widen a narrow logarithmic axis by, so that it shows at least one tick."""
    return 1.0 if high / low > 3 else 1.6


def _write_in_cells(panel: Axes, image: AxesImage, texts: Sequence[Sequence[str]]) -> None:
    """Write a text into each cell of an image, white where the cell is dark."""
    red, green, blue, _ = np.moveaxis(image.to_rgba(np.asarray(image.get_array())), -1, 0)
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    for (y, x), light in np.ndenumerate(luminance):
        colour = "black" if light > 0.42 else "white"
        panel.text(x, y, texts[y][x], ha="center", va="center", fontsize=7, color=colour)


def _by_name(names: Sequence[str], looks: Sequence[str]) -> dict[str, str]:
    """A colour or a marker for each name, again from the first where there are more names."""
    return {name: looks[i % len(looks)] for i, name in enumerate(names)}


def _wrong(accuracy: float) -> float:
    """Percent of wrong answers, never zero: a logarithmic axis has no place for it."""
    return max(100 - accuracy, _LEAST_WRONG)
