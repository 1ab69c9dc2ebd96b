"""The built-in bundle's figures, made again from the training features that it carries."""

from __future__ import annotations

import numpy as np
import pytest

from edge_all import bundle as bundles
from edge_all import training_features
from edge_all.export.head import familiarity
from edge_all.export.head.fit import HeadSpec, fit_classifier
from edge_all.training_features import TrainingFeatures

FOLD = 0


@pytest.fixture(scope="module")
def kept() -> TrainingFeatures:
    found = training_features.read(bundles.load(bundles.BUILTIN))
    assert found is not None
    return found


def test_the_kept_answers_have_the_accuracy_of_the_record(kept: TrainingFeatures) -> None:
    record = bundles.load(bundles.BUILTIN).record
    right = kept.answers.argmax(1) == kept.labels
    assert len(right) == record["dataset"]["images"]
    assert 100 * right.mean() == pytest.approx(record["metrics"]["block"]["fp32"]["accuracy"], abs=0.05)
    recalls = record["metrics"]["block"]["fp32"]["recall"]
    for k, name in enumerate(record["classes"]):
        assert 100 * right[kept.labels == k].mean() == pytest.approx(recalls[name], abs=0.25)


@pytest.mark.slow
def test_a_head_fitted_without_a_fold_gives_the_kept_answers_to_it(kept: TrainingFeatures) -> None:
    record = bundles.load(bundles.BUILTIN).record
    inputs, of_fold = kept.inputs.astype(np.float32), kept.folds == FOLD
    there = ~of_fold[kept.shown]
    shown = kept.shown[there]
    spec = HeadSpec(record["selector"], record["classifier"], seed=record["seed"])
    head = fit_classifier(spec, inputs[there], kept.labels[shown].astype(int), shown)
    plain = inputs[: len(kept.labels)][of_fold]
    agreed = head.predict_proba(plain).argmax(1) == kept.answers[of_fold].argmax(1)
    assert agreed.mean() >= 0.99, "all features are scaled by what was seen in this fold, too: a few may differ"
    gaussian = familiarity.fit_inputs(inputs[there], familiarity.row_weights(shown))
    familiar = gaussian.distance(plain.astype(np.float64)) <= record["familiarity"]["limit"]
    assert familiar.mean() >= 0.97
