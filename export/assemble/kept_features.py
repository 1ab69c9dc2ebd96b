"""The features of the training images that travel with a bundle, so that a head can be fitted again at another site."""

from __future__ import annotations

import numpy as np

from edge_all import training_features
from edge_all.training_features import TrainingFeatures

from ..head.familiarity import classifier_input
from ..head.fit import Head
from ..head.reference import Reference


def pack(reference: Reference, head: Head, duplicates: np.ndarray) -> bytes:
    """The file's content.

    Args:
        reference: The FP32 pipeline.
        head: The head that ships.
        duplicates: ``int64 [N]``: near-duplicate group of each image.
    """
    rows, shown = reference.rows.training()
    return training_features.pack(
        TrainingFeatures(
            inputs=training_features.rounded(classifier_input(head, rows)),
            shown=shown,
            labels=reference.data.labels,
            folds=reference.splits[reference.headline],
            groups=duplicates,
            answers=reference.answers[reference.headline],
        )
    )
