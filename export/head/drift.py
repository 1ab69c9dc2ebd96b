"""Runs of fields: a changed lamp, stain, focus or scale, told from neighbouring fields together.

One field rarely shows such a change, for fields differ among themselves by more. The mean of 20 does. What is compared
are the numbers that the classifier reads, less the class means in the shares that the classifier itself gives, so that
it does not matter which classes are in a run.

For each of `CHANGES` the training images are changed a little, and the shift of their mean is the direction to look in:
a matched filter (Fisher's discriminant) under the scatter of runs of neighbouring fields, one slide's, as at the bench.
It is the scatter between runs that counts, which is larger than that of as many fields drawn anywhere. A score is
linear in the features, so the graph gives every field its own, and the score of a run is their mean.

The limit is `MARGIN` times the largest score of runs of training fields, each under class means and scatter of the
other folds alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from sklearn.covariance import LedoitWolf

from edge_all.progress import Progress, ignore
from edge_all.record import DriftRecord

from .. import features
from ..dataset import spread
from ..dataset.changes import Change
from ..features import Wanted
from ..graph import edit
from ..graph.names import DEVIATION, HEAD, PROBABILITIES, SELECTED
from . import evaluate, familiarity
from .fit import Head
from .reference import Reference

RUN = 20
"""Fields that are judged together."""

STRIDE = 5
"""The runs that the limits are set on begin so many fields after one another."""

LEAST_RUNS = 20
"""Where there are fewer of them, there is no drift check."""

MARGIN = 2.0

CLIP = 4.0
"""No field counts for more limits than this, so that a few strange pictures in a run are no drift."""

IMAGES = 400
"""Training images that are changed, spread over the data set."""

CHANGES: tuple[Change, ...] = (
    Change("darker", gamma=1.3),
    Change("lighter", gamma=0.77),
    Change("out of focus", blur=2.2),
    Change("bluer", gains=(0.9, 1.0, 1.1)),
    Change("redder", gains=(1.1, 1.0, 0.9)),
    Change("larger", zoom=1.25),
    Change("smaller", zoom=0.8),
    Change("more haematoxylin", stain=(1.2, 0.8)),
    Change("more eosin", stain=(0.8, 1.2)),
)


@dataclass(frozen=True)
class Drift:
    """What a field adds to the score of its run, for each of J changes.

    Attributes:
        centre: ``float64 [F]``, of what the classifier reads.
        factor: ``float64 [F, J]``.
        offsets: ``float64 [K, J]``: the part of each class.
        runs: How many runs the limits were set on.
        protocol: The split protocol of their folds.
    """

    centre: np.ndarray
    factor: np.ndarray
    offsets: np.ndarray
    runs: int
    protocol: str

    @property
    def record(self) -> DriftRecord:
        """For the bundle's record."""
        names = [change.name for change in CHANGES]
        return {"run": RUN, "changes": names, "protocol": self.protocol, "runs": self.runs, "margin": MARGIN}

    def scores(self, inputs: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Scores ``[N, J]`` of fields, divided by their limits.

        Args:
            inputs: What the classifier reads, ``[N, F]``.
            answers: Class probabilities ``[N, K]``.
        """
        return np.asarray(np.clip((inputs - self.centre) @ self.factor - answers @ self.offsets, -CLIP, CLIP))


@dataclass(frozen=True)
class Fields:
    """Training fields, in the order of the data set.

    Attributes:
        inputs: What the classifier reads, ``float64 [N, F]``.
        answers: Class probabilities ``[N, K]``.
        labels: ``int64 [N]``.
        folds: ``int64 [N]``: runs do not cross them.
        protocol: The split protocol of these folds.
    """

    inputs: np.ndarray
    answers: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    protocol: str = "block"

    def means(self, images: np.ndarray) -> np.ndarray:
        """Class means ``[K, F]`` over some images, ``bool [N]``."""
        classes = range(self.answers.shape[1])
        return np.stack([self.inputs[images & (self.labels == k)].mean(0) for k in classes])

    def runs(self, fold: int) -> list[np.ndarray]:
        """Numbers of the images of each run of neighbours of one class."""
        found = []
        for label in np.unique(self.labels):
            numbers = np.flatnonzero((self.labels == label) & (self.folds == fold))
            found += [numbers[i : i + RUN] for i in range(0, len(numbers) - RUN + 1, STRIDE)]
        return found


def measure(reference: Reference, head: Head, progress: Progress = ignore) -> Drift | None:
    """Fit the check on the training images.

    Args:
        reference: The FP32 pipeline.
        head: The head that ships.
        progress: Counts changed images.

    Returns:
        None where there are too few neighbouring fields.
    """
    data, protocol = reference.data, reference.headline
    folds = reference.splits[protocol]
    inputs = familiarity.classifier_input(head, reference.rows.plain)
    fields = Fields(inputs, reference.answers[protocol], data.labels, folds, protocol)
    if sum(len(fields.runs(fold)) for fold in np.unique(folds)) < LEAST_RUNS:
        return None
    chosen = spread(np.arange(len(data)), IMAGES)
    changed = {}
    (made,) = features.extract_each([Wanted(reference.graph)], data.take(chosen), reference.size, CHANGES, progress)
    for change, rows in zip(CHANGES, made, strict=True):
        answers = evaluate.answer(reference.heads[protocol], rows, folds[chosen])
        changed[change.name] = familiarity.classifier_input(head, rows), answers
    return solve(fields, chosen, changed)


def solve(fields: Fields, chosen: np.ndarray, changed: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Drift | None:
    """The scores and their limits.

    Args:
        fields: As they are.
        chosen: Numbers of those that were changed, ``int64 [M]``.
        changed: What the classifier reads of them, ``[M, F]``, and its answers, ``[M, K]``, by change.

    Returns:
        None where there are too few neighbouring fields.
    """
    everything = np.ones(len(fields.labels), bool)
    means = fields.means(everything)
    whitening = _whitening(fields.inputs - means[fields.labels])
    runs, of_fold = _runs(fields, whitening)
    if len(runs) < LEAST_RUNS or len(np.unique(of_fold)) < 2:
        return None
    plain = fields.inputs[chosen] - fields.answers[chosen] @ means
    shifts = np.stack([(inputs - answers @ means - plain).mean(0) for inputs, answers in changed.values()]) @ whitening
    scores = np.zeros((len(runs), len(shifts)))
    for fold in np.unique(of_fold):
        scores[of_fold == fold] = runs[of_fold == fold] @ _filters(shifts, runs[of_fold != fold])
    limits = MARGIN * np.maximum(scores.max(0), np.sqrt((scores**2).mean(0)))
    factor = whitening @ _filters(shifts, runs) / np.maximum(limits, np.finfo(float).tiny)
    centre = means.mean(0)
    return Drift(centre, factor, (means - centre) @ factor, len(runs), fields.protocol)


def _whitening(deviations: np.ndarray) -> np.ndarray:
    """A matrix ``[F, F]`` after which deviations from the class means, ``[N, F]``, have the same scatter everywhere."""
    return np.asarray(np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(deviations).precision_))


def _runs(fields: Fields, whitening: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean deviation of each run, ``[R, F]``, from class means of the other folds, and the fold of each run."""
    means, of_fold = [], []
    for fold in np.unique(fields.folds):
        others = fields.means(fields.folds != fold)
        deviations = (fields.inputs - fields.answers @ others) @ whitening
        own = fields.runs(fold)
        means += [deviations[run].mean(0) for run in own]
        of_fold += [fold] * len(own)
    return np.array(means), np.array(of_fold)


def _filters(shifts: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Directions ``[F, J]`` that tell shifts ``[J, F]`` best from the scatter of runs ``[R, F]``."""
    along = shifts @ LedoitWolf(assume_centered=True).fit(runs).precision_
    lengths = np.sqrt(np.einsum("jf,jf->j", along, shifts))
    return np.asarray((along / np.maximum(lengths, np.finfo(float).tiny)[:, np.newaxis]).T)


def with_output(model: onnx.ModelProto, drift: Drift) -> onnx.ModelProto:
    """Give a head's graph one more output.

    Args:
        model: To "probabilities" and others, with `SELECTED` in it.
        drift: Fitted on what this head's classifier reads.

    Returns:
        The same with ``float32 [N, J]`` "deviation".
    """
    nodes = edit.Nodes()
    projected = familiarity.mapped(nodes, SELECTED, drift.centre, drift.factor, f"{DEVIATION}/projected")
    return appended(model, nodes, projected, drift)


def appended(model: onnx.ModelProto, nodes: edit.Nodes, projected: str, drift: Drift) -> onnx.ModelProto:
    """A copy of a graph with these nodes, and behind them what makes "deviation" of the projected features."""
    inner, node_name = f"{DEVIATION}/", f"{HEAD}{DEVIATION}_"
    offsets = nodes.constant(f"{inner}offsets", drift.offsets.astype(np.float32))
    least = nodes.constant(f"{inner}least", np.array(-CLIP, np.float32))
    most = nodes.constant(f"{inner}most", np.array(CLIP, np.float32))
    expected = nodes.add("MatMul", [PROBABILITIES, offsets], f"{inner}expected", f"{node_name}MatMul1")
    score = nodes.add("Sub", [projected, expected], f"{inner}score", f"{node_name}Sub1")
    nodes.add("Clip", [score, least, most], DEVIATION, f"{node_name}Clip")
    extended = edit.copy(model)
    nodes.append_to(extended.graph)
    shape = ["N", drift.factor.shape[1]]
    extended.graph.output.append(helper.make_tensor_value_info(DEVIATION, TensorProto.FLOAT, shape))
    onnx.checker.check_model(extended, full_check=True)
    return extended
