"""The part of MODEL_CARD.md that says what a bundle was adapted from, and how well it does at the site and at home."""

from __future__ import annotations

from edge_all.record import Adaptation, Figures, RecordBody


def lines(record: RecordBody) -> list[str]:
    """The section; nothing for a bundle that was exported."""
    adapted = record.get("lineage", [])
    if not adapted:
        return []
    return [
        "## Adapted to a site",
        "",
        *(line for each in adapted for line in _adaptation(each)),
        "What follows was measured when the bundle was exported, before it was adapted.",
        "",
    ]


def _adaptation(adapted: Adaptation) -> list[str]:
    site, strange = adapted["site"], adapted["outsiders"]
    counts = ", ".join(f"{name} {count}" for name, count in site["counts"].items())
    rows = [("site", adapted["at_site"])] + ([("home", adapted["at_home"])] if "at_home" in adapted else [])
    return [
        f"Made of {adapted['parent']} (digest {adapted['parent_digest'][:16]}) on {adapted['created']} with "
        f"{site['images']} fields of {site['name']} ({counts}) in {site['groups']} groups, each in {adapted['views']} "
        f"turned views, counted {adapted['weight']} times. Percent of held-out fields, with the 95 % interval.",
        "",
        "| fields | | number | right | ok | wrong with ok |",
        "|---|---|---|---|---|---|",
        *(
            _row(name, when, of)
            for name, both in rows
            for when, of in (("before", both["before"]), ("after", both["after"]))
        ),
        "",
        f"Of {strange['images']} pictures of other things {strange['ok_after']} are answered with ok "
        f"({strange['ok_before']} before).",
        "",
    ]


def _row(name: str, when: str, of: Figures) -> str:
    return (
        f"| {name} | {when} | {of['images']} | {of['accuracy']:.1f} ({of['low']:.1f}-{of['high']:.1f}) "
        f"| {of['ok']:.1f} | {of['wrong_ok']:.2f} |"
    )
