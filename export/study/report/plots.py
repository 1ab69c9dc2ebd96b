"""The report's figures, each a PNG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from edge_all.bench import verdict

from .. import metrics
from ..table import Row

_COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_LEAST_WRONG = 0.05
_DOTS = 50  # points of a curve under which each is marked
FEWEST = 10
"""Images that a bin of the reliability diagram must have to be drawn."""


@contextmanager
def figure(path: Path, rows: int, columns: int, size: tuple[float, float]) -> Iterator[tuple[Any, Any]]:
    """A figure and its axes ``[rows, columns]``, saved and closed at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(rows, columns, figsize=size, dpi=130, layout="constrained", squeeze=False)
    try:
        yield drawn, axes
        path.parent.mkdir(exist_ok=True)
        drawn.savefig(path)
    finally:
        pyplot.close(drawn)


def heat_map(path: Path, rows: Sequence[Row], protocol: str, span: tuple[float, float]) -> None:
    """Accuracy of every pipeline under one protocol: a panel a backbone, selectors by classifiers.

    Args:
        path: The PNG.
        rows: The table.
        protocol: Which.
        span: The colours' ends, in percent, the same for all protocols.
    """
    own = [row for row in rows if row["protocol"] == protocol]
    backbones, selectors, names = (_values(own, key) for key in ("backbone", "selector", "classifier"))
    size = (2.6 + 2.3 * len(backbones), 1.4 + 0.5 * len(selectors))
    with figure(path, 1, len(backbones), size) as (drawn, axes):
        for panel, backbone in zip(axes[0], backbones, strict=True):
            grid = np.full((len(selectors), len(names)), np.nan)
            for row in own:
                if row["backbone"] == backbone:
                    grid[selectors.index(row["selector"]), names.index(row["classifier"])] = row["accuracy"]
            image = panel.imshow(grid, vmin=span[0], vmax=span[1], cmap="viridis", aspect="auto")
            for (y, x), value in np.ndenumerate(grid):
                dark = value < (span[0] + span[1]) / 2
                panel.text(
                    x, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color="white" if dark else "black"
                )
            panel.set_title(backbone, fontsize=9)
            panel.set_xticks(range(len(names)), names, fontsize=7, rotation=30, ha="right")
            panel.set_yticks(range(len(selectors)), selectors if panel is axes[0][0] else [], fontsize=7)
        drawn.colorbar(image, ax=axes[0], shrink=0.8, label=f"accuracy under {protocol}, %")


def confusion(path: Path, labels: np.ndarray, answers: Mapping[str, np.ndarray], classes: Sequence[str]) -> None:
    """Confusion matrices by protocol, images counted."""
    with figure(path, 1, len(answers), (3.2 * len(answers), 3.3)) as (_, axes):
        for panel, (protocol, probabilities) in zip(axes[0], answers.items(), strict=True):
            counted = confusion_matrix(labels, probabilities.argmax(1), labels=range(len(classes)))
            panel.imshow(counted / counted.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1)
            for (y, x), value in np.ndenumerate(counted):
                panel.text(x, y, value, ha="center", va="center", fontsize=8, color="white" if y == x else "black")
            panel.set_title(protocol, fontsize=9)
            panel.set_xticks(range(len(classes)), classes, fontsize=8, rotation=30, ha="right")
            panel.set_yticks(range(len(classes)), classes if panel is axes[0][0] else [], fontsize=8)
            panel.set_xlabel("named", fontsize=8)
        axes[0][0].set_ylabel("is", fontsize=8)


def reliability(path: Path, labels: np.ndarray, answers: Mapping[str, np.ndarray]) -> None:
    """Accuracy over the largest probability, in bins of `FEWEST` or more; on the diagonal it can be believed."""
    with figure(path, 1, 1, (5, 5.2)) as (_, axes):
        panel = axes[0][0]
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for i, (name, probabilities) in enumerate(answers.items()):
            bins = metrics.reliability(labels, probabilities)
            filled = [one for one in bins if round(one[2] * len(labels)) >= FEWEST]
            sure, right, share = np.array(filled).reshape(-1, 3).T
            error = metrics.calibration_error(labels, probabilities)
            panel.plot(sure, right, color=_COLOURS[i], linewidth=1, label=f"{name}, ECE {error:.3f}")
            panel.scatter(sure, right, s=6 + 200 * share, color=_COLOURS[i], alpha=0.6)
        panel.set_xlabel("largest probability")
        panel.set_ylabel("share that is right")
        panel.set_xlim(0.2, 1.02)
        panel.set_ylim(0, 1.03)
        panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.13))
        panel.grid(alpha=0.25)


def risk_coverage(path: Path, labels: np.ndarray, answers: Mapping[str, np.ndarray]) -> None:
    """Error among the images that are answered, the least sure referred first."""
    with figure(path, 1, 1, (5.6, 4.2)) as (_, axes):
        panel = axes[0][0]
        for i, (name, probabilities) in enumerate(answers.items()):
            sure = probabilities.max(1)
            order = np.argsort(-sure, kind="stable")
            wrong = (probabilities.argmax(1) != labels)[order]
            answered = np.arange(1, len(labels) + 1)
            # Images of the same probability are answered or referred together.
            last = np.append(np.diff(sure[order]) != 0, True) & (answered > 0.3 * len(labels))
            panel.plot(
                (100 * answered / len(labels))[last], (100 * np.cumsum(wrong) / answered)[last],
                ".-" if last.sum() < _DOTS else "-", color=_COLOURS[i], label=name,
            )  # fmt: skip
        panel.axvline(95, color="0.7", linewidth=1)
        panel.set_xlabel("images answered, %")
        panel.set_ylabel("wrong among them, %")
        panel.legend(fontsize=7)
        panel.grid(alpha=0.25)


def curves(path: Path, found: Mapping[str, Any], heads: Sequence[str]) -> None:
    """Accuracy over the level of each change, a panel a curve."""
    across = 5
    down = -(-len(found["curves"]) // across)
    lowest = min(point[key] for points in found["curves"].values() for point in points for key in heads)
    with figure(path, down, across, (2.7 * across, 2.5 * down)) as (_, axes):
        for panel, (title, points) in zip(axes.flat, found["curves"].items(), strict=False):
            for head, colour in zip(heads, ("tab:orange", "tab:blue"), strict=True):
                levels = range(len(points))
                panel.plot(levels, [point[head] for point in points], "o-", markersize=3, color=colour, label=head)
            panel.set_xticks(range(len(points)), [f"{point['level']:g}" for point in points], fontsize=7)
            panel.set_title(title, fontsize=8)
            panel.set_ylim(lowest - 2, 100.5)
            panel.tick_params(labelsize=7)
            panel.grid(alpha=0.25)
        axes[0][0].legend(fontsize=7, loc="lower center")
        axes[0][0].set_ylabel("accuracy, %", fontsize=8)
        for panel in axes.flat[len(found["curves"]) :]:
            panel.set_axis_off()


def plane(path: Path, rows: Sequence[Row], deployed: Sequence[Mapping[str, Any]]) -> None:
    """Accuracy over the graph's time, FP32, and what INT8 made of the best; time and errors on logarithmic scales."""
    from matplotlib import ticker

    names, kinds = _values(rows, "backbone"), _values(rows, "classifier")
    with figure(path, 1, 1, (8, 5)) as (_, axes):
        panel = axes[0][0]
        placed = [row | {"latency_ms": {"p50": row["graph_ms"]}} for row in rows]
        unbeaten = [row for row, best in zip(rows, verdict.pareto(placed), strict=True) if best]
        front = sorted(unbeaten, key=lambda row: row["graph_ms"])
        panel.step(
            [row["graph_ms"] for row in front], [_wrong(row["accuracy"]) for row in front],
            where="post", color="0.6", linewidth=1,
        )  # fmt: skip
        for row in rows:
            colour = _COLOURS[names.index(row["backbone"]) % len(_COLOURS)]
            marker = _MARKERS[kinds.index(row["classifier"]) % len(_MARKERS)]
            panel.plot(row["graph_ms"], _wrong(row["accuracy"]), marker, color=colour, markersize=5, alpha=0.7)
        for one in deployed:
            ms, metric = one["graph_ms"].get("openvino"), one["metrics"]["block"].get("int8")
            if ms and ms["int8"] and metric:
                colour = _COLOURS[names.index(one["pipeline"].split("-")[0]) % len(_COLOURS)]
                wrong = _wrong(metric["targets"]["openvino"]["accuracy"])
                panel.plot(ms["int8"], wrong, "*", color=colour, markersize=15, markeredgecolor="black")
        for i, name in enumerate(names):
            panel.plot([], [], "o", color=_COLOURS[i % len(_COLOURS)], label=name)
        for i, name in enumerate(kinds):
            panel.plot([], [], _MARKERS[i % len(_MARKERS)], color="0.5", label=name)
        panel.plot([], [], "*", color="white", markeredgecolor="black", markersize=12, label="INT8")
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.invert_yaxis()
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_minor_formatter(ticker.NullFormatter())
        panel.xaxis.set_major_formatter(lambda ms, position: f"{ms:g}")
        panel.yaxis.set_major_formatter(lambda wrong, position: f"{100 - wrong:g}")
        panel.set_xlabel("graph, median ms for one image, FP32, OpenVINO, this machine")
        panel.set_ylabel(f"accuracy under {rows[0]['protocol']}, %")
        panel.grid(alpha=0.25)
        panel.legend(fontsize=7, ncols=2, loc="lower right")


def _wrong(accuracy: float) -> float:
    """Percent that is wrong, never nothing: a logarithm has no place for it."""
    return max(100 - accuracy, _LEAST_WRONG)


def _values(rows: Sequence[Row], key: str) -> list[str]:
    return sorted({row[key] for row in rows})
