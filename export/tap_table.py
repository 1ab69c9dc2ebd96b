"""Reading the table of what ``--tap auto`` compared."""

from __future__ import annotations

from edge_all.record import TapCandidate, TapTable


def is_chosen(table: TapTable, candidate: TapCandidate) -> bool:
    """Whether a candidate of a table is the one that was chosen."""
    same_size = "chosen_size" not in table or list(table["chosen_size"]) == list(candidate.get("size", ()))
    return candidate["tap"] == table["chosen"] and same_size


def is_complete(table: TapTable, candidate: TapCandidate) -> bool:
    """Whether a candidate of a table was tried with all changes that the chosen one was tried with."""
    return set(candidate["changes"]) >= set(_chosen(table)["changes"])


def sentence(table: TapTable) -> str:
    """What was chosen, for the user."""
    chosen = _chosen(table)
    height, width = table["chosen_size"]
    return (
        f"tap {chosen['tap']} at {width}x{height} pixels chosen from {len(table['candidates'])} ({table['prefer']}): "
        f"{chosen['accuracy']:.1f} % under {table['protocol']}, {chosen['transfer']:.1f} % on looks left out, "
        f"{chosen['worst']:.1f} % under the worst change ({chosen['worst_change']}), {chosen['ms']:.2f} ms in FP32"
    )


def _chosen(table: TapTable) -> TapCandidate:
    return next(c for c in table["candidates"] if is_chosen(table, c))
