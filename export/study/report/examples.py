"""The surest errors of the best pipeline, each beside the images that it took it for."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ...head import evaluate, familiarity
from .. import table
from ..picks import Study
from .blocks import Picture, Pictures

_ERRORS, _NEIGHBOURS, _SIDE = 10, 3, 160


def blocks(study: Study) -> Iterator[Pictures]:
    """An error and its neighbours a block."""
    best, data = study.own[0], study.data
    folds, rows = study.ground.splits[best["protocol"]], study.ground.rows[best["backbone"]]
    given = table.answers(study.settings.out, table.cell(best))
    wrong = np.flatnonzero(given.argmax(1) != data.labels)
    surest = wrong[np.argsort(-given[wrong].max(1), kind="stable")][:_ERRORS]
    heads = evaluate.fold_heads(rows, data.labels, folds, study.fit(best))
    for i in surest:
        read = familiarity.chosen(heads[folds[i]], rows.plain)
        distance = np.linalg.norm(read - read[i], axis=1)
        others = np.flatnonzero(folds != folds[i])
        nearest = others[np.argsort(distance[others], kind="stable")[:_NEIGHBOURS]]
        named = data.classes[given[i].argmax()]
        said = f"is {data.classes[data.labels[i]]}, named {named}, {100 * given[i].max():.0f} %: {data.files[i]}"
        yield Pictures([_picture(study, i, said), *(_picture(study, j, _neighbour(study, j)) for j in nearest)])


def _neighbour(study: Study, number: int) -> str:
    return f"{study.data.classes[study.data.labels[number]]}: {study.data.files[number]}"


def _picture(study: Study, number: int, caption: str) -> Picture:
    encoded = io.BytesIO()
    with Image.open(study.data.paths[number]) as opened:
        small = opened.convert("RGB")
        small.thumbnail((_SIDE, _SIDE))
        small.save(encoded, "JPEG", quality=85)
    return Picture(encoded.getvalue(), caption)
