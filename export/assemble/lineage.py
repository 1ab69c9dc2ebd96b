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


def fresh_card(record: RecordBody) -> str:
    """The whole card of a bundle whose head was fitted on a site's images alone."""
    r = record
    lines = [
        f"# {r['name']}",
        "",
        "**Research software, not a medical device. No label it gives is a diagnosis.**",
        "",
        f"Classifies an image, {r['input']['width']}x{r['input']['height']} pixels in RGB, into "
        f"{', '.join(r['classes'])}.",
        "",
        f"The backbone is {r['backbone']} up to `{r['tap']}`, INT8, which another bundle carried; its "
        f"{r['features']} features are scaled, and the classifier ({r['classifier']}) is fitted on one site's images "
        "alone. In the record's `metrics`, FP32's figures repeat those of INT8: there is no other graph.",
        "",
        *(line for each in r["lineage"][-1:] for line in _adaptation(each)),
        f"An image whose most probable class is under {r['referral']['threshold']:.4g} is to be referred.",
        "",
        "## Not for",
        "",
        "Diagnosis, screening, or any decision about a patient; other stains, cameras or magnifications than those of "
        "this site.",
        "",
    ]
    return "\n".join(lines)


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
