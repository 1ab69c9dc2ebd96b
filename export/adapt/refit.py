"""The head fitted again on the kept training features and a site's fields, and what it answers to what it has not seen.

Home and site are cross-validated together: a fold holds out a fifth of either, so one fit serves both figures. What
sets limits (the distance beyond which a picture is unfamiliar, the probability below which it is referred) are the
held-out answers, half of the weight with home and half with the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.base import ClassifierMixin

from edge_all import machine
from edge_all.training_features import TrainingFeatures

from ..assemble import risk
from ..head import familiarity
from ..head.familiarity import Gaussian
from ..head.fit import HeadSpec, fit_classifier
from .site import Site

WEIGHT = 3
"""How many times each view of a site's field counts."""


@dataclass(frozen=True)
class Pool:
    """Rows to fit on: those that the bundle kept of its N images, and the views of S fields of the site.

    Attributes:
        inputs: What the classifier reads, ``float32 [M, F]``: first the N images as they are, then the S fields as they
            are, then copies and turned views.
        shown: ``int64 [M]``: which of the N + S images each row shows.
        labels: ``int64 [N + S]``.
        folds: ``int64 [N + S]``.
        groups: ``int64 [N + S]``: images that stay together.
        home: N.
    """

    inputs: np.ndarray
    shown: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    groups: np.ndarray
    home: int

    @property
    def at_site(self) -> np.ndarray:
        """``bool [N + S]``: which images are the site's."""
        return np.arange(len(self.labels)) >= self.home

    def training(self, images: np.ndarray, weight: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows of some images, ``bool [N + S]``, the site's so many times: ``float32 [R, F]`` and ``int64 [R]``."""
        rows = np.flatnonzero(images[self.shown])
        site = rows[self.shown[rows] >= self.home]
        rows = np.concatenate([rows, np.tile(site, weight - 1)])
        return self.inputs[rows], self.shown[rows]

    def moved(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Home's of some images, ``bool [N + S]``, where the site would have them: ``float32 [R, F]``, ``int64 [R]``.

        A few fields tell where the site's features lie; how they scatter, the many images of home tell better. A class
        moves by the difference of the means, half by its own and half by that of all classes alike, which fewer fields
        can tell; so it does not matter which classes the site has most fields of. Sun, Feng and Saenko 2016 ("Return of
        Frustratingly Easy Domain Adaptation") move features likewise, without labels and with their covariance.
        """
        home = np.flatnonzero(images[: self.home])
        site = np.flatnonzero(images[self.shown] & (self.shown >= self.home))
        labels = self.labels[self.shown]
        own: dict[int, np.ndarray] = {
            k: self.inputs[site[labels[site] == k]].mean(0) - self.inputs[home[labels[home] == k]].mean(0)
            for k in np.intersect1d(labels[site], labels[home])
        }
        if not own:
            return self.inputs[:0], self.shown[:0]
        common: np.ndarray = np.mean(list(own.values()), axis=0)
        shifts = np.stack([own.get(label, common) for label in labels[home]])
        return self.inputs[home] + (shifts + common) / 2, self.shown[home]


def pool(kept: TrainingFeatures, views: Sequence[np.ndarray], site: Site) -> Pool:
    """Put a site's S fields beside the N images of which a bundle kept the features.

    Args:
        kept: Of N images.
        views: What the classifier reads of the S fields, ``float32 [S, F]``, as they are and in each turned view.
        site: The S fields.
    """
    home, fields = len(kept.labels), len(site.data)
    inputs = kept.inputs.astype(np.float32)
    numbers = home + np.arange(fields)
    return Pool(
        inputs=np.concatenate([inputs[:home], views[0], inputs[home:], *views[1:]]),
        shown=np.concatenate([kept.shown[:home], numbers, kept.shown[home:], np.tile(numbers, len(views) - 1)]),
        labels=np.concatenate([kept.labels, site.data.labels]).astype(np.int64),
        folds=np.concatenate([kept.folds, site.folds]).astype(np.int64),
        groups=np.concatenate([kept.groups, kept.groups.max() + 1 + site.groups]).astype(np.int64),
        home=home,
    )


def alone(views: Sequence[np.ndarray], site: Site) -> Pool:
    """A site's S fields with nothing beside them; arguments as for `pool`."""
    fields = len(site.data)
    return Pool(
        inputs=np.concatenate(views).astype(np.float32),
        shown=np.tile(np.arange(fields), len(views)),
        labels=site.data.labels,
        folds=site.folds,
        groups=site.groups,
        home=0,
    )


@dataclass(frozen=True)
class Fitted:
    """A classifier and the distribution of what it was fitted on."""

    classifier: ClassifierMixin
    gaussian: Gaussian

    def answer(self, inputs: np.ndarray) -> Answers:
        """Answers to what the classifier reads, ``float32 [S, F]``."""
        if not len(inputs):
            return Answers(np.zeros((0, len(self.classifier.classes_))), np.zeros(0))
        return Answers(self.classifier.predict_proba(inputs), self.gaussian.distance(inputs.astype(np.float64)))


@dataclass(frozen=True)
class Answers:
    """Answers to S images.

    Attributes:
        probabilities: ``float64 [S, K]``.
        distances: ``float64 [S]``: squared, to the training images.
    """

    probabilities: np.ndarray
    distances: np.ndarray

    def take(self, images: np.ndarray) -> Answers:
        """Those to some of the images, ``bool [S]``."""
        return Answers(self.probabilities[images], self.distances[images])

    def first(self, count: int) -> Answers:
        """Those to so many images."""
        return Answers(self.probabilities[:count], self.distances[:count])

    def after(self, count: int) -> Answers:
        """Those to all but so many."""
        return Answers(self.probabilities[count:], self.distances[count:])


@dataclass(frozen=True)
class Limits:
    """When a picture is not answered.

    Attributes:
        distance: Beyond this, it is unfamiliar.
        threshold: If the largest probability is below this, it is referred.
    """

    distance: float
    threshold: float

    def ok(self, answers: Answers) -> np.ndarray:
        """``bool [S]``: which images get the status ``ok``."""
        return np.asarray((answers.distances <= self.distance) & (answers.probabilities.max(1) >= self.threshold))


def fit(pool: Pool, spec: HeadSpec, images: np.ndarray | None = None, weight: int = WEIGHT) -> Fitted:
    """Fit on some images, ``bool [N + S]``; None is all."""
    chosen = np.ones(len(pool.labels), bool) if images is None else images
    inputs, shown = pool.training(chosen, weight)
    weights = np.where(shown < pool.home, familiarity.row_weights(shown), 1.0)
    gaussian = familiarity.fit_inputs(inputs, weights)
    moved, images_moved = pool.moved(chosen)
    inputs, shown = np.concatenate([inputs, moved]), np.concatenate([shown, images_moved])
    return Fitted(fit_classifier(spec, inputs, pool.labels[shown], shown), gaussian)


def fit_folds(pool: Pool, spec: HeadSpec, left_out: np.ndarray | None = None, weight: int = WEIGHT) -> list[Fitted]:
    """Fit for each fold on all others, without the images that are left out altogether, ``bool [N + S]``."""
    there = np.ones(len(pool.labels), bool) if left_out is None else ~left_out
    folds = np.unique(pool.folds)
    jobs = (delayed(fit)(pool, spec, (pool.folds != k) & there, weight) for k in range(int(folds.max()) + 1))
    return list(Parallel(n_jobs=machine.usable_cores(), backend="threading")(jobs))  # libsvm works without the GIL


def held_out(fitted: Sequence[Fitted], inputs: np.ndarray, folds: np.ndarray) -> Answers:
    """Answers to images ``float32 [S, F]``, each by what was fitted without its fold, ``int64 [S]``."""
    parts = [each.answer(inputs[folds == k]) for k, each in enumerate(fitted)]
    probabilities = np.zeros((len(folds), parts[0].probabilities.shape[1]))
    distances = np.zeros(len(folds))
    for k, part in enumerate(parts):
        probabilities[folds == k], distances[folds == k] = part.probabilities, part.distances
    return Answers(probabilities, distances)


def limits(pool: Pool, rows: Answers) -> Limits:
    """The limits that let as many held-out images pass as an export's, home and site counting half each.

    The distance and the threshold are never less than home alone wants: a few fields that are unlike their neighbours
    must not let wrong answers pass. Where there is no home, the site is. The threshold is raised for the changed
    copies, too, as an export raises it; where there is no home, however few are answered then, for a head on a few
    fields alone may be weak.

    Args:
        pool: Home and site.
        rows: Held-out answers to every row, M.
    """
    images = len(pool.labels)
    plain, copies = rows.first(images), rows.after(images)
    weights = np.where(pool.at_site, 0.5 / pool.at_site.sum(), 0.5 / max(pool.home, 1))
    sure, home = plain.probabilities.max(1), pool.at_site if not pool.home else ~pool.at_site

    def at_coverage(percent: float) -> float:
        share = 1 - percent / 100
        return max(_quantile(sure, weights, share), float(np.quantile(sure[home], share)))

    distance = max(
        _quantile(plain.distances, weights, familiarity.ACCEPTED / 100), familiarity.limit(plain.distances[home])
    )
    familiar = copies.distances <= distance
    wrong = copies.probabilities.argmax(1) != pool.labels[pool.shown[images:]]
    safe = risk.safe(copies.probabilities.max(1)[familiar], wrong[familiar], risk.RISK) if familiar.any() else 0.0
    most = at_coverage(risk.LEAST_COVERAGE) if pool.home else 1.0
    return Limits(distance, float(np.clip(safe, at_coverage(familiarity.COVERAGE), most)))


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value that this share of the weight is at or under."""
    order = np.argsort(values)
    reached = np.searchsorted(np.cumsum(weights[order]), share * weights.sum())
    return float(values[order][min(int(reached), len(values) - 1)])
