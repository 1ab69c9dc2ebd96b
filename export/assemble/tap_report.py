"""The table of the compared taps and its plot, for people who want to see why a tap was chosen."""

from __future__ import annotations

import json
from pathlib import Path

from edge_all import files, intervals
from edge_all.bench import plot
from edge_all.errors import BundleError
from edge_all.record import RecordBody, TapCandidate, TapTable

from ..tap_table import is_chosen, is_complete

TABLE, DATA, PICTURE = "taps.md", "taps.json", "taps.png"


def check(folder: Path) -> None:
    """Say before the work begins what would stop `write` at its end.

    Raises:
        ToolchainError: matplotlib is not installed.
        EdgeAllError: The folder cannot be made, or one of the files cannot be written there.
    """
    plot.check_available()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f"--report {folder}: cannot be written ({error.strerror}); give another folder") from None
    for name in (TABLE, DATA, PICTURE):
        files.check_writable(folder / name)


def write(folder: Path, record: RecordBody) -> None:
    """Write ``taps.md``, ``taps.json`` and ``taps.png``.

    Args:
        folder: Where to.
        record: Of the bundle; its ``taps`` is not null.
    """
    taps = record["taps"]
    assert taps is not None
    title = f"{record['backbone']}, {record['selector']} and {record['classifier']}"
    files.write(folder / DATA, json.dumps(taps, indent=1) + "\n")
    files.write(folder / TABLE, "\n".join([f"# Taps of {title}", "", *lines(taps)]) + "\n")
    with files.replacing(folder / PICTURE) as aside:
        draw(aside, taps, title)


def lines(taps: TapTable) -> list[str]:
    """The table in Markdown."""
    rows = [
        f"| {'**' + c['tap'] + '**' if is_chosen(taps, c) else c['tap']} | {_input(c)} | {c['features']} "
        f"| {c['macs'] / 1e6:.0f} | {c['ms']:.2f} | {c['accuracy']:.2f} | {_interval(c)} "
        f"| {_transfer(c)} | {'' if is_complete(taps, c) else '<= '}{c['worst']:.2f} "
        f"| {c['worst_change']} | {_outsiders(c)} |"
        for c in taps["candidates"]
    ]
    first_choices = sorted(set(taps["first_choice_without_fold"]))
    return [
        f"Accuracy in percent under `{taps['protocol']}` on {taps['images']} images; balanced accuracy on looks that "
        f"the head was fitted without (transfer); accuracy under the worst change of the battery on "
        f"{taps['battery_images']} of them. Where <= stands before that, only the hardest changes were tried: the "
        f"others could not have made it the choice. Time of the FP32 graph ({taps['target']}, milliseconds). "
        f"Preferred: {taps['prefer']}. With the images of one fold left out, the first choice is "
        f"{', '.join(first_choices)}{' for every fold' if len(first_choices) == 1 else ''}. Where = stands before the "
        "95 % interval, the accuracy is not told from the highest by these images (paired bootstrap), and not to be "
        "ranked below it. Outsiders: how many pictures that are no fields would be familiar there; it "
        "was counted where a tap was about to be chosen, and one with any is passed over for "
        "another. MACs are those of the backbone's own input size; smaller inputs were tried with the chosen tap.",
        "",
        "| tap | input | features | million MACs | ms | accuracy | 95 % | transfer | worst | under | outsiders |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        *_smaller(taps),
    ]


def _smaller(taps: TapTable) -> list[str]:
    """What smaller inputs let in."""
    found = [f"{size}: {count}" for size, count in taps.get("smaller", {}).items()]
    return ["", f"Outsiders that would be familiar from smaller inputs: {', '.join(found)}."] if found else []


def _input(candidate: TapCandidate) -> str:
    """Width and height of its input; bundles made before several were tried have none."""
    return "x".join(str(side) for side in reversed(candidate["size"])) if "size" in candidate else "-"


def _interval(candidate: TapCandidate) -> str:
    """The interval of a tap's accuracy, marked where the accuracy is not told from the highest."""
    if "interval" not in candidate:
        return ""
    mark = "" if candidate.get("told_from_best", True) else "="
    return mark + intervals.words(candidate["interval"])


def _outsiders(candidate: TapCandidate) -> str:
    """How many outsiders are familiar there, where it was counted."""
    count = candidate.get("outsiders")
    return "" if count is None else str(count)


def _transfer(candidate: TapCandidate) -> str:
    """Its transfer in percent; bundles made before it was measured have none."""
    return f"{candidate['transfer']:.2f}" if "transfer" in candidate else "-"


def draw(path: Path, taps: TapTable, title: str) -> None:
    """Draw accuracy over time: each tap on unchanged images, a line down to its worst change tried, and its transfer.

    Args:
        path: Where to write the PNG.
        taps: What was compared.
        title: The backbone, the selector and the classifier.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    chosen, other = plot.COLOURS[1], plot.COLOURS[0]
    with matplotlib.rc_context({"font.size": 11}):
        figure, axes = pyplot.subplots(figsize=plot.SIZE_INCHES, dpi=plot.DPI, layout="constrained")
        labels = {"unchanged": "unchanged images", "worst": "worst change tried", "transfer": "looks left out"}
        labels["chosen"] = f"chosen: {taps['chosen']}"
        for c in sorted(taps["candidates"], key=lambda c: is_chosen(taps, c)):
            marked = is_chosen(taps, c)
            colour, marker, size = (chosen, "D", 9) if marked else (other, "o", 7)
            axes.plot([c["ms"]] * 2, [c["worst"], c["accuracy"]], color=colour, linewidth=1.2, alpha=0.5)
            label = labels.pop("chosen" if marked else "unchanged", None)
            axes.plot(c["ms"], c["accuracy"], marker, markersize=size, color=colour, linestyle="none", label=label)
            axes.plot(
                c["ms"], c["worst"], "v", markersize=size, color=colour, markerfacecolor="white", linestyle="none",
                label=labels.pop("worst", None),
            )  # fmt: skip
            if "transfer" in c:
                axes.plot(
                    c["ms"], c["transfer"], "x", markersize=size, color=colour, linestyle="none",
                    label=labels.pop("transfer", None),
                )  # fmt: skip
        for c in _named(taps):
            axes.annotate(
                c["tap"].replace(":std", ""), (c["ms"], c["accuracy"]), fontsize=9, rotation=35,
                textcoords="offset points", xytext=(1, 7), color=other,
            )  # fmt: skip
        axes.set_xlabel(f"FP32 graph, median time for one image on {taps['target']} (ms)")
        axes.set_ylabel(f"accuracy under {taps['protocol']} (%)")
        axes.set_title(f"Where to take features: {title}", fontsize=11, loc="left")
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + 0.15 * (high - low))  # for the names
        axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= 100])
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=4, frameon=False)
        figure.savefig(path)
        pyplot.close(figure)


def _named(taps: TapTable) -> list[TapCandidate]:
    """The taps that get a name in the plot: those more accurate than all faster ones, if there is room for the name.

    The legend names the chosen one.
    """
    ordered = sorted(taps["candidates"], key=lambda c: (c["ms"], -c["accuracy"]))
    room = 0.07 * (ordered[-1]["ms"] - ordered[0]["ms"])
    taken = [c["ms"] for c in ordered if is_chosen(taps, c)]
    named: list[TapCandidate] = []
    for i, c in enumerate(ordered):
        is_best = all(faster["accuracy"] < c["accuracy"] for faster in ordered[:i])
        if is_best and all(abs(ms - c["ms"]) >= room for ms in taken):
            named.append(c)
            taken.append(c["ms"])
    return named
