"""The report's section about what an accuracy is to be compared with, and its sentences."""

from __future__ import annotations

from collections.abc import Mapping

from ..audit import Audit, Duplicates
from ..table import Row
from .blocks import Points, Section, Table
from .results import Results

_SMALL = 0.5  # points


def section(results: Results) -> Section:
    """Baselines beside the best pipeline, by protocol."""
    audit, protocols = results.audit, list(results.study.inputs.splits)

    def line(title: str, accuracy: Mapping[str, float]) -> list[str]:
        return [title, *(f"{accuracy[protocol]:.2f}" for protocol in protocols)]

    lines = [
        line(f"six colour numbers, {name}", {protocol: audit["colour"][protocol][name] for protocol in protocols})
        for name in audit["colour"][protocols[0]]
    ]
    lines += [
        line("corner at the bottom right, nearest neighbour", audit["corner"]),
        line("always the largest class", dict.fromkeys(protocols, audit["largest_class"])),
        line("best pipeline, corner as it is", audit["mask"]["before"]),
        line("best pipeline, corner masked", audit["mask"]["after"]),
    ]
    return Section(
        "What to compare the accuracies with",
        [Points(sentences(audit, results.study.best)), Table(["baseline", *protocols], lines)],
    )


def sentences(audit: Audit, best: Row) -> list[str]:
    """What the audit shows, and what to do about it."""
    return [
        _duplicates(audit["duplicates"]),
        colour_sentence(audit, best),
        _scale_bar(audit, best.cell.protocol),
        *(_gap(protocol, points) for protocol, points in audit["gap"].items()),
    ]


def colour_sentence(audit: Audit, best: Row) -> str:
    """How far colour alone comes, and how much the best pipeline adds to it."""
    colour, accuracy = max(audit["colour"][best.cell.protocol].values()), best.scores.accuracy
    alone = (
        "Colour alone, as mean and standard deviation of red, green and blue, reaches up to "
        f"{colour:.1f} % under {best.cell.protocol}"
    )
    if accuracy <= colour:
        return f"{alone}. The best pipeline, at {accuracy:.1f} %, is no better than that."
    return (
        f"{alone}, and the best pipeline {accuracy:.1f} %. Only the {accuracy - colour:.1f} points between them need "
        "more than colour. On images with another stain or lamp, expect to lose what colour gave."
    )


def _duplicates(duplicates: Duplicates) -> str:
    leaking = ", ".join(f"{count} under {protocol}" for protocol, count in duplicates["leaks"].items())
    counts = (
        f"Of {duplicates['images']} images, {duplicates['identical']} are byte for byte the same as another one, and "
        f"{duplicates['in_groups']} are near-duplicates, in {duplicates['groups']} groups."
    )
    if not duplicates["in_groups"]:
        return counts
    return (
        f"{counts} Test images with a near-duplicate in training: {leaking}. Remove the duplicates, or keep them in "
        "the same fold, before you quote an accuracy."
    )


def _scale_bar(audit: Audit, protocol: str) -> str:
    corner, largest_class = audit["corner"][protocol], audit["largest_class"]
    before, after = audit["mask"]["before"][protocol], audit["mask"]["after"][protocol]
    tells = corner > largest_class + _SMALL
    lesson = "what is there, such as a scale bar, gives the class away" if tells else "the corner alone tells nothing"
    advice = (
        "it depends on the corner. Use --mask-corner."
        if before - after > _SMALL
        else "it does not depend on the corner, and --mask-corner costs no accuracy."
    )
    return (
        f"From the corner at the bottom right alone, where a scale bar may be, {corner:.1f} % of the images are "
        f"classified correctly under {protocol}; always answering with the largest class is right for "
        f"{largest_class:.1f} %. So {lesson}. "
        "Painting the corner grey takes the best pipeline (fitted without changed copies) from "
        f"{before:.2f} to {after:.2f} % under {protocol}: {advice}"
    )


def _gap(protocol: str, points: float) -> str:
    if points <= 0:
        return f"From random to {protocol}, half of the pipelines lose nothing."
    advice = f"Quote the accuracy under {protocol}." if points > _SMALL else "That is little."
    return f"From random to {protocol}, half of the pipelines lose {points:.1f} points or more. {advice}"
