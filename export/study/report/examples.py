"""The most confident errors of the best pipeline, each beside its nearest training images."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from ...head import evaluate, familiarity
from .. import table
from ..study import Study
from .blocks import Picture, Pictures

_ERRORS, _NEIGHBOURS, _SIDE = 10, 3, 160


def blocks(study: Study) -> Iterator[Pictures]:
    """A block for each error: the image, and its nearest images of other folds."""
    cell, data = study.best.cell, study.data
    folds, rows = study.inputs.splits[cell.protocol], study.inputs.rows[cell.backbone]
    probabilities = table.probabilities(study.settings.out, cell)
    wrong = np.flatnonzero(probabilities.argmax(1) != data.labels)
    most_confident = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:_ERRORS]
    heads = evaluate.fold_heads(rows, data.labels, folds, study.spec(study.best))
    for i in most_confident:
        features = familiarity.classifier_input(heads[folds[i]], rows.plain)
        distance = np.linalg.norm(features - features[i], axis=1)
        others = np.flatnonzero(folds != folds[i])
        nearest = others[np.argsort(distance[others], kind="stable")[:_NEIGHBOURS]]
        predicted = f"predicted {data.classes[probabilities[i].argmax()]}, {100 * probabilities[i].max():.0f} %"
        caption = f"true class {data.classes[data.labels[i]]}, {predicted}: {data.files[i]}"
        yield Pictures([_picture(study, i, caption), *(_picture(study, j, _neighbour(study, j)) for j in nearest)])


def _neighbour(study: Study, number: int) -> str:
    return f"{study.data.classes[study.data.labels[number]]}: {study.data.files[number]}"


def _picture(study: Study, number: int, caption: str) -> Picture:
    encoded = io.BytesIO()
    with Image.open(study.data.paths[number]) as opened:
        small = opened.convert("RGB")
        small.thumbnail((_SIDE, _SIDE))
        small.save(encoded, "JPEG", quality=85)
    return Picture(encoded.getvalue(), caption)
