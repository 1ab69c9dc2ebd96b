"""What ``bundle.json`` holds: the record of a bundle, as typed dictionaries.

This is the one place that says so; docs/bundle.schema.json is made from these classes and their comments. Annotations
are not postponed here: with ``from __future__ import annotations`` Python would call every field required.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NotRequired, TypedDict, final

from edge_all import limits


class InputRecord(TypedDict):
    """The image that a graph takes, and what the graph does with it first."""

    height: limits.Side  # Height of the input, in pixels
    width: limits.Side  # Width of the input, in pixels
    # Width of a larger input that shows the same, where this smaller one was found to be enough; absent for none
    full_width: NotRequired[limits.Side]
    equalize: bool  # Whether the graph equalizes the histogram
    mask_corner: bool  # Whether the graph paints the corner with the scale bar of the public data set grey
    mean: limits.Channels  # Mean of red, green and blue that is subtracted, as a share of full brightness
    std: limits.Channels  # Standard deviation of red, green and blue that is divided by, as a share of full brightness


class Detection(TypedDict):
    """How well the positive classes are told from the others, in percent; absent where no class is positive."""

    sensitivity: NotRequired[limits.Percent]  # Images of a positive class with the label of one, of all of them
    specificity: NotRequired[limits.Percent]  # Images of another class with the label of another one, of all of them


class Intervals(TypedDict):
    """The 95 % interval of each figure of a score: its lower and upper limit, in percent (`edge_all.intervals`)."""

    accuracy: limits.Interval  # Of the accuracy
    balanced_accuracy: limits.Interval  # Of the balanced accuracy
    recall: Mapping[str, limits.Interval]  # Of the recall of each class that has images
    sensitivity: NotRequired[limits.Interval]  # Of the sensitivity; absent where the score has none
    specificity: NotRequired[limits.Interval]  # Of the specificity; absent where the score has none
    over: str  # What was resampled: ``images``, ``near-duplicate groups`` or ``given groups``
    count: limits.Count  # How many of them there are


class Score(Detection):
    """Accuracy on images that the head was not fitted on, in percent."""

    accuracy: limits.Percent  # Images with the right label
    balanced_accuracy: limits.Percent  # Mean of the recalls
    macro_f1: limits.Percent  # Mean of the F1 scores of the classes
    recall: Mapping[str, limits.Percent]  # Recall of each class
    intervals: NotRequired[Intervals]  # How far these figures may be off
    images: limits.Count  # How many images were evaluated
    agreement_fp32: NotRequired[limits.Percent]  # Images with FP32's label; absent from FP32's own cross-validation


class Int8Score(Score):
    """The score of the target that lost most accuracy, with the scores of all targets."""

    targets: Mapping[str, Score]  # The score of each target


class Metrics(TypedDict):
    """Cross-validated scores under one split protocol, by precision."""

    fp32: Score  # The pipeline in float32
    fp16: NotRequired[Score]  # With convolutions in float16; absent where ``gpu`` is not a target
    int8: NotRequired[Int8Score]  # With a quantized backbone; absent where no scheme gave a graph for any target


class RobustnessTable(TypedDict):
    """Accuracy on images that were changed in one way each, in percent."""

    clean: limits.Percent  # On the images as they are
    worst: limits.Percent  # Under the change that costs most
    worst_change: str  # The name of that change
    changes: Mapping[str, limits.Percent]  # Under each change, by its name


class Robustness(TypedDict):
    """What changes of light, focus and orientation cost."""

    protocol: str  # The split protocol of the heads that were evaluated
    images: limits.Count  # How many images were changed and evaluated
    fp32: RobustnessTable  # The pipeline in float32
    int8: Mapping[str, RobustnessTable]  # The INT8 pipeline of each target that has one


class Familiarity(TypedDict):
    """The limit beyond which a picture is called unfamiliar."""

    protocol: str  # The split protocol under which the limit was set
    asked: limits.Percent  # Percent of held-out images that the limit is to let pass
    limit: float  # Squared Mahalanobis distance; what gives the graph's ``unfamiliarity`` is already divided by it
    # What the limits were multiplied with so that pictures that are no fields are beyond them; older bundles lack it
    drawn_in: NotRequired[limits.Share]
    accepted: Mapping[str, limits.Percent]  # Percent of held-out images that pass: ``fp32``, and by target for INT8
    # Early places whose features are judged beside those that the classifier reads; absent where there are none
    tap: NotRequired[limits.Name]
    tap_limit: NotRequired[float]  # Squared Mahalanobis distance there


class DriftRecord(TypedDict):
    """How runs of fields are told from the training images; the graph's ``deviation`` is divided by the limits."""

    run: limits.Run  # How many fields are judged together
    changes: limits.Names  # What is looked for, in the order of the output's columns
    protocol: str  # The split protocol of the runs that the limits were set on
    runs: limits.Count  # How many runs these were, each judged without its own fold
    margin: float  # How many times the largest score of these runs a limit is


class Look(TypedDict):
    """Training images that were changed in one way."""

    reason: limits.Name  # What is said of a picture that looks most like them
    measures: limits.Measures  # Their measures in the mean, as `edge_all.input_check` takes them
    limit: float  # The squared distance from it up to which the reason is given


class InputCheckRecord(TypedDict):
    """What tells why a picture is unfamiliar."""

    home: limits.Measures  # Measures of the training images in the mean, as they are
    looks: Sequence[Look]  # The same, changed in one way each
    # A matrix by which measures are multiplied from the right; then distances are squared and added up
    whitening: Annotated[Sequence[limits.Measures], limits.Length(limits.MEASURES, limits.MEASURES)]
    margin: float  # By how much the squared distance of the next reason must be larger
    images: limits.Count  # How many training images were measured


class CoveragePoint(TypedDict):
    """One point of the risk-coverage curve."""

    threshold: limits.Share  # Least probability of the most probable class for an answer
    coverage: limits.Percent  # Percent of held-out images that are answered
    error: limits.Percent  # Percent of these answers that are wrong


class Caught(TypedDict):
    """What a referral threshold that was set for a wanted sensitivity reaches, in percent."""

    wanted: limits.Percent  # The sensitivity that was asked for
    reached: limits.Percent  # Images of a positive class that are called positive, referred or unfamiliar
    interval: limits.Interval  # The 95 % interval of ``reached``
    passed: NotRequired[limits.Percent]  # Other images that are called negative with ``ok``; absent without such images
    over: str  # What was resampled, as in ``Intervals``
    count: limits.Count  # How many of these hold an image of a positive class


class Risk(TypedDict):
    """What the threshold does to changed copies of the training images, answered by heads that did not see them."""

    asked: limits.Percent  # Percent of those with status ``ok`` that may have a wrong label
    ok: limits.Percent  # Percent of the copies with status ``ok``
    wrong: limits.Percent  # Percent of these with a wrong label


class Referral(CoveragePoint):
    """When an image is referred to a person, and what is left of the errors."""

    protocol: str  # The split protocol of the answers it was measured on, which are FP32's
    curve: Sequence[CoveragePoint]  # The risk-coverage curve, from full coverage down
    changed: NotRequired[Risk]  # Absent where there are no copies, or the threshold was set for a sensitivity
    caught: NotRequired[Caught]  # Present where the threshold was set for a wanted sensitivity, and not for a coverage


class GateVerdict(TypedDict):
    """Whether a quantized pipeline lost no more than it may."""

    passed: bool  # Whether each loss is within what is allowed
    protocol: str  # The split protocol of the scores that were compared
    # Percentage points lost: ``balanced_accuracy``, ``recall`` (of the class that lost most) and ``disagreement``
    # (images with another label than FP32's)
    lost: Mapping[str, float]
    allowed: Mapping[str, float]  # The most that may be lost, by the same names
    worst_class: str  # The class whose recall fell most


class BlockScore(TypedDict):
    """The figures that an attempt keeps, in percent, under its ``protocol``."""

    accuracy: limits.Percent  # Images with the right label
    balanced_accuracy: limits.Percent  # Mean of the recalls
    agreement_fp32: limits.Percent  # Images with the label that FP32 gives


class Times(TypedDict):
    """Median time of the backbone for one image on the exporting machine, in milliseconds."""

    fp32_graph_ms: float | None  # In float32; null where the target's engine is not on the exporting machine
    graph_ms: float | None  # Quantized, measured in alternation with FP32; null likewise


@final
class TriedHead(Times, GateVerdict):
    """A quantized backbone with one kind of head, and what the gate said."""

    scheme: str  # How INT8 was made
    head: str  # The kind of head: ``fp32``, ``realigned`` or ``refitted``
    block: BlockScore  # Its figures under ``protocol``, which is ``block`` where no groups were given


@final
class FailedScheme(TypedDict):
    """A scheme that gave no graph."""

    scheme: str  # How INT8 was to be made
    failed: str  # The reason


Tried = TriedHead | FailedScheme
"""One attempt at INT8; a failed one has ``failed``."""


class TargetVerdict(TypedDict):
    """What became of INT8 for one target.

    Where every scheme failed, only ``passed`` and ``tried`` are there. Otherwise the other fields describe the attempt
    that ships, or the one that lost least where none passed.
    """

    passed: bool  # Whether an INT8 graph ships
    scheme: NotRequired[str]  # How it was made
    head: NotRequired[str]  # The kind of head: ``fp32``, ``realigned`` or ``refitted``
    fp32_graph_ms: NotRequired[float | None]  # As in ``Times``
    graph_ms: NotRequired[float | None]  # As in ``Times``
    protocol: NotRequired[str]  # As in ``GateVerdict``
    lost: NotRequired[Mapping[str, float]]  # As in ``GateVerdict``
    allowed: NotRequired[Mapping[str, float]]  # As in ``GateVerdict``
    worst_class: NotRequired[str]  # As in ``GateVerdict``
    tried: Sequence[Tried]  # Every attempt, in order


class Gate(TypedDict):
    """What became of INT8, and whether the bundle may be used at all."""

    passed: bool  # Whether an INT8 graph ships for every target, and no outsider is answered with ``ok``
    targets: Mapping[str, TargetVerdict]  # The verdict for each target


class OutsidersRecord(TypedDict):
    """Pictures that are no fields: drawn ones, and photographs that come with Python packages."""

    passed: bool  # Whether no graph answers any of them with ``ok``
    pictures: limits.Count  # How many there are
    ok: Mapping[str, limits.Count]  # How many are answered with ``ok``, by "target.precision"
    kinds: Mapping[str, limits.Count]  # By kind, those that the graph with most of them answers with ``ok``


class CutRecord(TypedDict):
    """What was saved by cutting the channels that no kept feature needs."""

    macs: limits.Count  # Multiply-accumulates of the backbone for one image
    macs_uncut: limits.Count  # The same before the cut
    bytes: limits.Count  # Size of the backbone's graph
    bytes_uncut: limits.Count  # The same before the cut


class TapCandidate(RobustnessTable):
    """A tap, or two of them, that features could be taken at; ``clean`` counts the images of the battery only.

    ``changes`` has the hardest changes alone where the others could not have made it the choice; ``worst`` may then be
    too high.
    """

    tap: limits.Name  # Its name
    # Height and width of the input, in pixels; older bundles lack it
    size: NotRequired[limits.Size]
    features: limits.Count  # How many features it gives
    macs: limits.Count  # Multiply-accumulates up to it, at the backbone's own input size
    ms: float  # Median time of its FP32 graph for one image, in milliseconds
    accuracy: limits.Percent  # On all images under the table's protocol, in percent
    interval: NotRequired[limits.Interval]  # The 95 % interval of ``accuracy``
    # Whether the images tell its accuracy from that of the most accurate one, by the paired difference
    told_from_best: NotRequired[bool]
    # Balanced accuracy on all images by heads fitted without images of their look, in percent; older bundles lack it
    transfer: NotRequired[limits.Percent]
    # How many pictures that are no fields would be familiar there; null where that was not tried
    outsiders: NotRequired[limits.Count | None]


class TapTable(TypedDict):
    """What ``--tap auto`` compared."""

    prefer: str  # What was preferred: ``accuracy``, ``balanced``, ``speed`` or ``transfer``
    chosen: str  # The tap that was chosen
    # Height and width of the input that was chosen, in pixels; older bundles lack it
    chosen_size: NotRequired[limits.Size]
    # By "WIDTHxHEIGHT" of each smaller input that was tried with the chosen tap: how many pictures that are no fields
    # would be familiar there, counted on a part of the images where that showed more than the own size lets in. Such a
    # one was not scored
    smaller: NotRequired[Mapping[str, limits.Count]]
    # The single tap that would have been chosen without the images of each fold
    first_choice_without_fold: Sequence[str]
    protocol: str  # The split protocol of the accuracies
    images: limits.Count  # How many images were evaluated
    battery_images: limits.Count  # How many of them were also evaluated under each change
    target: str  # The target in whose engine time was measured
    candidates: Sequence[TapCandidate]  # Every tap that was scored


class Verified(TypedDict):
    """A fused graph compared with its backbone and its head run one after the other."""

    images: limits.Count  # How many images were compared
    agreement: limits.Percent  # Percent of them with the same label
    max_difference: limits.Share  # Largest difference of a probability


class DatasetRecord(TypedDict):
    """The images that the head was fitted on."""

    name: str  # Name of the data set's folder
    source: str  # Where the images come from, in words
    images: limits.Count  # How many there are
    counts: Mapping[str, limits.Count]  # How many there are of each class
    fingerprint: str  # SHA-256 over all of them, in hexadecimal digits
    groups: limits.Count  # How many groups of near-duplicates they form
    # By split protocol, how many test images have a near-duplicate in training
    near_duplicates_across_folds: Mapping[str, limits.Count]
    given_groups: NotRequired[limits.Count]  # How many groups (patients, slides) were given; absent where none were


class Status(TypedDict):
    """Images with each status, in percent of all."""

    familiar: NotRequired[limits.Percent]  # Within the limit of what is familiar
    ok: NotRequired[limits.Percent]  # Status ``ok``
    wrong_ok: NotRequired[limits.Percent]  # Status ``ok`` and a wrong label


class HeldOutScore(Score, Status):
    """Accuracy and statuses on images that were kept out."""


class HeldOut(TypedDict):
    """Figures on images that were kept out of everything that the measured graphs were made from.

    They are those of ``--hold-out``, or the data's own test split.
    """

    protocol: str  # How the images were chosen
    images: limits.Count  # How many there are
    # How many images the measured graphs were fitted on. Where these are fewer than the data set has, the bundle's own
    # graphs were made in the same way of all images, and were not measured on these. Absent: it is the bundle's own
    fitted: NotRequired[limits.Count]
    scores: Mapping[str, HeldOutScore]  # By "target.precision"


class Figures(TypedDict):
    """How fields were answered by heads that had not seen them, in percent of all of them."""

    images: limits.Count  # How many there were
    accuracy: limits.Percent  # The right label
    low: limits.Percent  # Lower end of the accuracy's 95 % interval
    high: limits.Percent  # Upper end of it
    ok: limits.Percent  # Status ``ok``
    wrong_ok: limits.Percent  # Status ``ok`` and a wrong label


class BeforeAfter(TypedDict):
    """Figures of the bundle as it was, and of the one that was made of it."""

    before: Figures  # As it was
    after: Figures  # Adapted


class SiteRecord(TypedDict):
    """The images of a site."""

    name: str  # Name of their folder
    images: limits.Count  # How many there are
    counts: Mapping[str, limits.Count]  # How many there are of each class
    fingerprint: str  # SHA-256 over all of them, in hexadecimal digits
    groups: limits.Count  # How many sessions, slides or groups of near-duplicates they form


class Outsiders(TypedDict):
    """Pictures that show none of the classes."""

    images: limits.Count  # How many were tried
    ok_before: limits.Count  # How many of them the bundle as it was answered with ``ok``
    ok_after: limits.Count  # How many of them the adapted one does


class Adaptation(TypedDict):
    """How a bundle was made of another one, with images of one site (``edge-all adapt``)."""

    parent: limits.Name  # Name of the other bundle
    parent_digest: limits.Sha256  # Digest of its record
    created: str  # When, in ISO 8601, UTC
    site: SiteRecord  # The images of the site
    views: limits.Count  # How many turned views of each of them the head was fitted on
    weight: limits.Count  # How many times each view counted
    at_site: BeforeAfter  # On the site's images, of the graph that lost most
    # On the kept training features, in float32; absent where the head was fitted on the site alone (``--fresh``)
    at_home: NotRequired[BeforeAfter]
    outsiders: Outsiders  # What became of pictures that show none of the classes


class CarriedRecord(TypedDict):
    """A deeper part of the backbone that a bundle carries, for a head on another laboratory's images alone."""

    file: limits.Name  # The graph, from the image to ``features``
    tap: limits.Name  # Where these are taken
    features: limits.Count  # How many there are
    macs: limits.Count  # Multiply-accumulates up to the tap, at the backbone's own input size
    scheme: str  # How it was quantized


class WeightsRecord(TypedDict):
    """The weights of the backbone."""

    source: str  # Where they come from, in words
    digest: str  # SHA-256 over the names, shapes and values of the tensors, in hexadecimal digits
    pretrained: bool  # False for random ones


class MachineRecord(TypedDict):
    """A machine on which something was measured."""

    cpu: str  # Name of the CPU
    # Those that decide the speed and the accuracy of INT8; empty where the system does not say
    instruction_sets: Sequence[str]
    limited_to: str | None  # The environment's limit on the instruction sets that OpenVINO may use; null for none
    cores: limits.Count  # Cores that the process may run on
    memory_mb: limits.Count  # Memory of the machine, in MiB; 0 where the system does not say
    system: str  # Operating system and architecture
    python: str  # Version of Python
    engines: Mapping[str, str]  # Version of each inference engine


class FileEntry(TypedDict):
    """A file of the bundle."""

    bytes: limits.FileSize  # Its size
    sha256: limits.Sha256  # SHA-256 of its content, in hexadecimal digits


class RecordBody(TypedDict):
    """What the export knows about a bundle: the record without the three fields that writing it adds."""

    name: limits.Name  # Name of the bundle
    created: str  # When it was made, in ISO 8601, UTC
    classes: limits.Names  # Class names, in the order of the graph's probabilities
    positive: NotRequired[limits.SomeNames]  # The classes that count as positive; absent where none were named
    backbone: limits.Name  # Name of the convolutional network
    # Where features are taken; several places are joined by ``+``, and ``:std`` says that standard deviations are
    # pooled beside averages
    tap: limits.Name
    channels: limits.Count  # How many features the tap gives
    backbone_macs: limits.Count  # Multiply-accumulates up to the tap, at the backbone's own input size
    taps: TapTable | None  # What ``--tap auto`` compared; null where the tap was given
    cut: Mapping[str, CutRecord]  # What cutting saved: ``fp32``, and by target for INT8
    augment: limits.Count  # How many changed copies of each image the head was fitted on
    balance: bool  # Whether copies were made of the smallest class only
    setting: Mapping[str, float] | None  # The classifier's hyper-parameters; null for its default
    selector: limits.Name  # Name of the feature selector
    classifier: limits.Name  # Name of the classifier
    features: limits.Count  # How many features the selector keeps
    seed: int  # Of every random choice
    input: InputRecord  # The image that a graph takes
    scale: NotRequired[float]  # Micrometres of the smear that a pixel of this image shows; absent where it is not known
    # File of the graph, by target and precision; the precision to prefer comes first
    models: Mapping[str, Mapping[str, limits.Name]]
    metrics: Mapping[str, Metrics]  # Cross-validated scores, by split protocol
    robustness: Robustness  # What changes of light, focus and orientation cost
    familiarity: Familiarity  # The limit beyond which a picture is called unfamiliar
    referral: Referral  # When an image is referred to a person
    drift: NotRequired[DriftRecord]  # How runs of fields are judged; absent where they are not
    input_check: NotRequired[InputCheckRecord]  # What tells why a picture is unfamiliar; absent where nothing does
    gate: Gate  # What became of INT8
    outsiders: NotRequired[OutsidersRecord]  # Pictures that are no fields, and must not be answered with ``ok``
    verified: Mapping[str, Verified]  # Fused graphs compared with their parts, by "target.precision"
    dataset: DatasetRecord  # The images that the head was fitted on
    held_out: HeldOut | None  # Scores on images kept out of everything; null where there were none
    carried: NotRequired[CarriedRecord]  # A deeper backbone for ``edge-all adapt --fresh``; absent where there is none
    lineage: NotRequired[Sequence[Adaptation]]  # What it was adapted from, the latest last; absent for an export
    weights: WeightsRecord  # The weights of the backbone
    schemes: Mapping[str, str]  # The quantization scheme that ships, by target
    tools: Mapping[str, str]  # Version of each package that made the bundle
    machine: MachineRecord  # The exporting machine


class Record(RecordBody):
    """The whole content of ``bundle.json``."""

    protocol: int  # Version of this form
    files: Mapping[str, FileEntry]  # Every other file of the bundle, by name
    digest: limits.Sha256  # SHA-256 of the record without this field, as JSON with sorted keys and no spaces
