"""The answers to a frame's tiles as a picture and as GeoJSON."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence

from edge_all import overlay
from edge_all.prediction import Prediction
from edge_all.tiles import EMPTY, Frame, Pixels, Tile


def draw(frame: Frame, pixels: Pixels, classes: Sequence[str]) -> bytes:
    """The frame with an outline around each tile in the colour of its class, as a PNG file.

    Args:
        frame: The answers.
        pixels: The frame, ``uint8 [h, w, 3]``.
        classes: The bundle's classes, which decide about the colours.
    """
    drawn = [
        overlay.Outline(tile.box, answer.label or "", f"{name(tile)} {_share(answer)}" if answer.label else name(tile))
        for tile in frame.tiles
        if (answer := tile.prediction)
    ]
    counts = {label: frame.labels[label] for label in classes} | {
        status: frame.statuses[status] for status in ("refer", "unfamiliar", EMPTY)
    }
    return overlay.outlines(pixels, drawn, counts, classes)


def name(tile: Tile) -> str:
    """What is written on a tile: its label, with ``?`` where it is referred; its status where it has no label."""
    answer = tile.prediction
    if not answer or answer.label is None:
        return tile.status
    return f"{answer.label}?" if answer.status == "refer" else answer.label


def _share(answer: Prediction) -> str:
    return f"{math.floor(100 * answer.probabilities[answer.top])} %"  # 99.6 % is not all


def geojson(frame: Frame, classes: Sequence[str]) -> str:
    """The answered tiles as GeoJSON (RFC 7946) in pixels of the frame, from its top left, as QuPath opens it.

    Each tile is a polygon with a classification and, as measurements, the probability of each class. A tile that is
    referred has a class of its own, such as ``Early?``.

    Args:
        frame: The answers.
        classes: The bundle's classes, which decide about the colours.
    """
    features = [feature(tile, classes) for tile in frame.tiles if tile.prediction]
    return json.dumps({"type": "FeatureCollection", "features": features}, ensure_ascii=False, indent=1) + "\n"


def feature(tile: Tile, classes: Sequence[str], kind: str = "annotation") -> dict[str, object]:
    """An answered tile as GeoJSON.

    Args:
        tile: The tile.
        classes: The bundle's classes.
        kind: What QuPath takes it for; it shows very many of kind ``tile`` faster.
    """
    answer, (left, top, right, bottom) = tile.prediction, tile.box
    assert answer
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    colour = overlay.rgb(overlay.colours(classes).get(answer.label or "", overlay.GREY))
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"edge_all {tile.box}")),
        "geometry": {"type": "Polygon", "coordinates": [[list(corner) for corner in corners]]},
        "properties": {
            "objectType": kind,
            "name": name(tile),
            "classification": {"name": name(tile), "color": list(colour)},
            "measurements": {f"p {label}": round(share, 6) for label, share in answer.probabilities.items()},
            "status": answer.status,
            "reason": answer.reason,
        },
    }
