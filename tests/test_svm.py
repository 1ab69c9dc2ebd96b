"""The SVM: one kernel for all its fits, and the same answers as scikit-learn's own parts."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from edge_all.export.classifiers import svm
from edge_all.export.head.fit import HeadSpec


def drawn(classes: int, count: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``float64 [N, 8]`` of overlapping classes, and these."""
    rng = np.random.default_rng(classes)
    labels = np.arange(count) % classes
    return rng.normal(size=(count, 8)) + 0.8 * np.eye(classes, 8)[labels], labels


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("largest", [svm._LARGEST_KERNEL, 0])
def test_it_answers_as_scikit_learns_parts_do(classes: int, largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the kernel's matrix is kept or computed as it is needed."""
    monkeypatch.setattr(svm, "_LARGEST_KERNEL", largest)
    rows, labels = drawn(classes)
    splits = list(StratifiedKFold(3, shuffle=True, random_state=0).split(rows, labels))
    gamma = 1 / (rows.shape[1] * rows.var())
    bare = SVC(C=10.0, gamma=gamma)
    machines = bare if classes == 2 else OneVsRestClassifier(bare)
    wanted = CalibratedClassifierCV(machines, cv=splits, ensemble=False).fit(rows, labels)
    fitted = svm.Svm(10.0, splits).fit(rows, labels)
    np.testing.assert_allclose(fitted.predict_proba(rows), wanted.predict_proba(rows), atol=5e-3)
    assert (fitted.predict(rows) == wanted.predict(rows)).all()


def test_the_kernel_is_that_of_its_rows() -> None:
    rows, _ = drawn(3, 1200)  # more than are computed at once
    kernel = svm.Kernel.of(rows)
    wanted = rbf_kernel(rows, gamma=kernel.gamma)
    every = kernel.part(np.arange(len(rows)))
    assert every is not None
    np.testing.assert_allclose(every, wanted, atol=1e-5)
    some, others = np.array([3, 700, 1199]), np.array([0, 3, 650])
    np.testing.assert_allclose(kernel.between(some, others), wanted[np.ix_(some, others)], atol=1e-5)
    part = kernel.part(some)
    assert part is not None
    np.testing.assert_allclose(part, wanted[np.ix_(some, some)], atol=1e-5)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_head_for_labels_only_names_the_class_of_the_largest_decision(classes: int) -> None:
    rows, labels = drawn(classes)
    features = rows.astype(np.float32)
    head = HeadSpec("anova", "svm", labels_only=True).fit(features, labels)
    scaled = head.pipeline[:-1].transform(features)
    decisions = (
        svm.OneAgainstRest(10.0)
        .fit_on(svm.Kernel.of(scaled.astype(np.float64)), np.arange(len(labels)), labels)
        .decisions(scaled)
    )
    wanted = decisions.argmax(1) if classes > 2 else decisions[:, 0] > 0
    assert (head.predict_proba(features).argmax(1) == wanted).mean() > 0.99  # the head's rows are rounded for its file
