"""The head: scaler, selector and classifier in scikit-learn, and the same as an ONNX graph."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from edge_all import training_features
from edge_all.errors import HeadError

from .. import classifiers, onnx_ops, selectors
from ..classifiers import Setting

LEAST_PER_CLASS = 3
"""Images of every class that a head needs: the SVM's probabilities are fitted on three folds."""


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes:
        pipeline: Steps ``scaler``, ``selector`` and ``classifier``, fitted on float32.
        channels: How many features go in: the first ones, where there are more.
        classes: How many classes come out.
    """

    pipeline: Pipeline
    channels: int
    classes: int

    @property
    def kept(self) -> np.ndarray | None:
        """Numbers of the input channels that matter, ``int64 [F]``; None with pca, where all do."""
        selector = self.pipeline["selector"]
        return selector.get_support(indices=True) if hasattr(selector, "get_support") else None

    @property
    def features(self) -> int:
        """How many features the classifier sees."""
        return int(self.pipeline["classifier"].n_features_in_)

    def for_aligned(self, slope: np.ndarray, offset: np.ndarray) -> Head:
        """This head for features x where ``slope * x + offset``, each ``[C]``, equals what it was fitted on."""
        slope, offset = slope[: self.channels], offset[: self.channels]
        scaler = copy.copy(self.pipeline["scaler"])
        scaler.mean_ = (scaler.mean_ - offset) / slope
        scaler.scale_ = scaler.scale_ / slope
        scaler.var_ = scaler.scale_**2
        return Head(Pipeline([("scaler", scaler), *self.pipeline.steps[1:]]), self.channels, self.classes)

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities ``float64 [N, K]`` of features ``float32 [N, C]``."""
        return np.asarray(self.pipeline.predict_proba(features[:, : self.channels]), dtype=np.float64)


@dataclass(frozen=True)
class Selection:
    """A fitted scaler and selector, and what they were fitted on.

    Attributes:
        scaler: Fitted on float32.
        selector: Fitted on what the scaler gives.
        selected: ``[N, F]``: what a classifier is fitted on.
        labels: ``int64 [N]``.
        shown: ``int64 [N]``: which image each row shows.
        channels: How many features went in.
    """

    scaler: StandardScaler
    selector: BaseEstimator
    selected: np.ndarray
    labels: np.ndarray
    shown: np.ndarray
    channels: int

    @property
    def count(self) -> int:
        """How many features were kept."""
        return int(self.selected.shape[1])

    def transform(self, features: np.ndarray) -> np.ndarray:
        """Scaled and selected, ``[M, F]``, of ``float32 [M, C]``."""
        return np.asarray(self.selector.transform(self.scaler.transform(features)))

    def unclassified(self) -> Head:
        """A head that gives what a classifier would read, and has none."""
        steps = [("scaler", self.scaler), ("selector", self.selector), ("classifier", "passthrough")]
        return Head(Pipeline(steps), self.channels, int(self.labels.max()) + 1)

    def classify(self, spec: HeadSpec) -> Head:
        """Fit the classifier of a head on the selected features."""
        model = fit_classifier(spec, self.selected, self.labels, self.shown)
        steps = [("scaler", self.scaler), ("selector", self.selector), ("classifier", model)]
        return Head(Pipeline(steps), self.channels, int(self.labels.max()) + 1)


@dataclass(frozen=True)
class HeadSpec:
    """What a head is made of, before it is fitted.

    Attributes:
        selector: A file of ``selectors/``.
        classifier: A file of ``classifiers/``.
        count: Features to keep; None is the selector's default, or all where there are fewer.
        seed: Seed of every random choice.
        setting: The classifier's hyper-parameters; None is its default.
        columns: The head reads the first so many of the features that it is given; None is all.
        labels_only: Nothing is fitted for the probabilities, where the classifier does that apart; of these only the
            largest then means something.
    """

    selector: str
    classifier: str
    count: int | None = None
    seed: int = 0
    setting: Setting | None = None
    columns: int | None = None
    labels_only: bool = False

    def fit(self, features: np.ndarray, labels: np.ndarray, shown: np.ndarray | None = None) -> Head:
        """Fit scaler, selector and classifier, in this order. Arguments and errors are those of `select`."""
        return self.select(features, labels, shown).classify(self)

    def select(self, features: np.ndarray, labels: np.ndarray, shown: np.ndarray | None = None) -> Selection:
        """Fit scaler and selector.

        Args:
            features: ``float32 [N, C]``.
            labels: ``int64 [N]``, numbers from 0.
            shown: ``int64 [N]``: which image each row shows, itself or changed; None is one row an image.

        Raises:
            HeadError: More features asked for than there are, features that are not finite, too few classes or images,
                or a selection that came out empty.
        """
        shown = np.arange(len(labels)) if shown is None else shown
        features = features[:, : self.columns]
        _check(features, labels, shown)
        count = _count(features, self.count, self.selector)
        scaler, selector = StandardScaler(), selectors.build(self.selector, count, self.seed)
        scaled = scaler.fit_transform(features.astype(np.float32))
        with warnings.catch_warnings():
            for expected in ("(?s)Features .* are constant", "invalid value encountered", "No features were selected"):
                warnings.filterwarnings("ignore", message=expected)
            warnings.filterwarnings("ignore", category=ConvergenceWarning)  # a selection needs no last digit
            selected = selector.fit(scaled, labels).transform(scaled)
        if not selected.shape[1]:
            raise HeadError(
                f"selector {self.selector} kept none of {features.shape[1]} features: they tell nothing about the "
                "classes; look at the data, or take another --selector"
            )
        return Selection(scaler, selector, selected, labels, shown, features.shape[1])


def to_onnx(head: Head, *, selected: bool = False) -> onnx.ModelProto:
    """Convert a head through skl2onnx, with the converters of ``onnx_ops``.

    Args:
        head: Fitted.
        selected: The graph's input is the kept features alone (``head.kept``), and the graph selects nothing.

    Returns:
        ``float32 [N, C]`` "features" to ``float32 [N, K]`` "probabilities" and ``int64 [N]`` "label" (the most probable
        class, the first at a tie), in standard ``ai.onnx`` operators and float32 only.
    """
    return onnx_ops.convert(head.pipeline, head.channels, selected=selected)


def fit_classifier(spec: HeadSpec, selected: np.ndarray, labels: np.ndarray, shown: np.ndarray) -> ClassifierMixin:
    """Fit the classifier of a head alone.

    Args:
        spec: What the head is made of.
        selected: What the classifier reads, ``[N, F]``; it is rounded as the file of kept features can hold it.
        labels: ``int64 [N]``.
        shown: ``int64 [N]``: which image each row shows.
    """
    splits = () if spec.labels_only else inner_splits(labels, shown, spec.seed)
    model = classifiers.build(spec.classifier, spec.seed, splits, spec.setting)
    return model.fit(training_features.rounded(selected), labels)


def inner_splits(labels: np.ndarray, shown: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds for the classifier's own cross-validation; all copies of an image lie on one side."""
    images, first = np.unique(shown, return_index=True)
    of_images = StratifiedKFold(LEAST_PER_CLASS, shuffle=True, random_state=seed).split(images, labels[first])
    tested = [np.isin(shown, images[there]) for _, there in of_images]
    return [(np.flatnonzero(~there), np.flatnonzero(there)) for there in tested]


def _check(features: np.ndarray, labels: np.ndarray, shown: np.ndarray) -> None:
    if not np.isfinite(features).all():
        rows = int((~np.isfinite(features).all(axis=1)).sum())
        raise HeadError(f"{rows} of {len(features)} images have features that are not finite; check the weights")
    counts = np.bincount(labels[np.unique(shown, return_index=True)[1]])
    if len(counts) < 2 or (counts == 0).any():
        raise HeadError(f"{np.count_nonzero(counts)} class with images was given; wanted at least 2, each with images")
    if counts.min() < LEAST_PER_CLASS:
        raise HeadError(
            f"a class has {counts.min()} images to fit on; wanted at least {LEAST_PER_CLASS} of each: add images"
        )


def _count(features: np.ndarray, count: int | None, selector: str) -> int:
    most = selectors.most_features(selector, *features.shape)
    if count is None:
        return min(selectors.default_count(selector), most)
    if not 1 <= count <= most:
        why = f" of {len(features)} images" if most < features.shape[1] else ""
        raise HeadError(f"--features {count} was given; {selector} can keep 1 to {most}{why}: give at most {most}")
    return count
