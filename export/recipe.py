"""All that defines an export, in one frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Conditions:
    """What the images are and how heads are trained on them: the same for an export and for a study.

    Attributes:
        data: Folder with one folder a class, or with splits of such folders; None takes the Kaggle set through
            kagglehub, or the folder of `labels`.
        labels: CSV file that names the images and their classes; None takes the folders.
        groups: CSV file or regular expression that names each image's patient or slide; None is the column ``group`` of
            `labels`, if it has one.
        features: How many features the selector keeps; None is 300 (pca: 32), or all where there are fewer.
        augment: Changed copies of every training image that the head is fitted on beside the image itself.
        balance: Changed copies of the smallest class's images alone, as many as bring it up to the largest.
        equalize: Histogram equalisation inside the graph, as in the paper.
        mask_corner: The corner with the public set's scale bar is painted grey, inside the graph.
        size: Height and width of the graph's input, in pixels; None is the backbone's own.
        seed: Seed of every random choice.
    """

    data: Path | None = None
    labels: Path | None = None
    groups: str | None = None
    features: int | None = None
    augment: int = 0
    balance: bool = False
    equalize: bool = False
    mask_corner: bool = False
    size: tuple[int, int] | None = None
    seed: int = 0


@dataclass(frozen=True)
class Recipe:
    """What to export, from what, to where.

    Attributes:
        backbone: A file of ``backbones/``.
        selector: A file of ``selectors/``.
        classifier: A file of ``classifiers/``.
        setting: The classifier's hyper-parameters; None is its default.
        conditions: The images, and how the head is trained on them.
        weights: ``auto`` (the publisher's download), ``random``, or a file.
        tap: Where features are taken: ``auto`` compares all taps, ``last`` is the paper's; or a name as in
            `backbones.places`.
        prefer: What ``auto`` prefers: ``speed``, ``accuracy``, ``balanced`` or ``transfer``.
        report: A folder for the table and the plot of the taps; None writes none.
        targets: Targets that get an INT8 graph; the FP32 graph serves all of them.
        out: The bundle's folder or ``.zip``; None is ``models/BACKBONE-TAP-SELECTOR-CLASSIFIER``.
        hold_out: Keep the last of the five ``block`` folds, or one of ``given_groups``, out, and measure on it what the
            other images give.
        refit: With `hold_out`: what ships is then fitted on all images; else it is what was measured.
        scale: Micrometres of the smear that a pixel of the graph's input shows; None where it is not known.
        source: Where the images come from, in words, for the model card.
        scheme: The one INT8 scheme to try, for every target; None searches.
        thorough: Try every scheme and keep the fastest that passes the gate; else the first that passes.
        drawn_probe: Put drawn images into the probe, so that no photograph travels with the bundle.
        positive: Names of the classes that count as positive, for sensitivity and specificity; empty for neither.
        sensitivity: Percent of positive images that the referral threshold is to catch; None sets it by coverage.
        carry: A deeper tap whose INT8 backbone travels with the bundle, for ``edge-all adapt --fresh``; None is none.
        keep_features: Put the features of the training images into the bundle, for ``edge-all adapt``.
    """

    backbone: str
    selector: str = "anova"
    classifier: str = "svm"
    setting: Mapping[str, float] | None = None
    conditions: Conditions = Conditions(augment=4)
    weights: str = "auto"
    tap: str = "auto"
    prefer: str = "balanced"
    report: Path | None = None
    targets: tuple[str, ...] = ("cpu", "openvino")
    out: Path | None = None
    hold_out: bool = False
    refit: bool = True
    scale: float | None = None
    source: str = ""
    scheme: str | None = None
    thorough: bool = False
    drawn_probe: bool = False
    positive: tuple[str, ...] = ()
    sensitivity: float | None = None
    carry: str | None = None
    keep_features: bool = True
