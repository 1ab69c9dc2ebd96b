"""What a measurement gives: the rows of ``edge-all bench --json``, and the job that a row's process is given.

Annotations are not postponed here: with ``from __future__ import annotations`` Python would call every field required.
"""

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict, final

from edge_all.record import Detection, Intervals


class Job(TypedDict):
    """What a process is to measure."""

    bundle: str  # Path of the bundle
    digest: str  # Of its record; another bundle at this path is not measured
    target: str
    precision: str
    device: str | None  # OpenVINO device
    threads: int | None  # Threads for one inference; null leaves it to the engine
    files: Sequence[str] | None  # Labelled images, each of which is classified once; null takes the probe's images
    queries: int  # How many timed queries are wanted; 0 is as many as there are files
    seconds: float  # The time after which fewer are enough


class Latency(TypedDict):
    """Times in milliseconds."""

    p50: float  # Median
    p90: float  # 90th percentile
    p99: float  # 99th percentile


class ProbeResult(TypedDict):
    """How the graph answered the bundle's probe on this machine, as `edge_all.probe.Verdict`."""

    images: int
    same_label: int
    max_difference: float
    passed: bool


class Accuracy(Detection):
    """Accuracy in percent, measured here or by the export."""

    accuracy: float  # Images with the right label
    balanced_accuracy: float  # Mean of the recalls
    recall: NotRequired[Mapping[str, float]]  # Recall of each class; absent where the figures are the export's
    intervals: NotRequired[Intervals]  # 95 % intervals of these figures; absent where an earlier export gave none
    agreement_fp32: float | None  # Images with the label that FP32 gives; null where FP32 could not be measured
    images: int  # How many images were evaluated
    accuracy_on: str  # ``unseen images``, ``seen images`` (the bundle was trained on them) or ``export (PROTOCOL)``
    training_images_left_out: NotRequired[int]  # Absent where the figures are the export's
    unreadable: NotRequired[int]  # Files that could not be read and count in no figure; absent as above


class Figures(TypedDict):
    """What the process of a row measures."""

    latency_ms: Latency  # From encoded bytes to the label, one image at a time
    graph_ms: Latency  # The engine's part of it
    queries: int  # How many queries were timed
    load_ms: float  # From the bundle's path to a loaded graph, in milliseconds
    throughput_ips: float  # Images a second, one after the other
    rss_mb: float  # Peak resident memory of the process, in MiB
    model_mb: float  # Size of the graph's file, in 10^6 bytes
    engine: str  # Engine, version and device
    threads: int  # Threads that were asked for, else the cores that the process may use
    probe: ProbeResult
    statuses: Mapping[str, int] | None  # How many images were ``ok``, ``refer``, ``unfamiliar``; null without images


class Subject(TypedDict):
    """The bundle that a row is about."""

    bundle: str  # A name that no other bundle of the measurement has
    path: str
    digest: str  # Of the bundle's record


@final
class Row(Subject, Accuracy, Figures):
    """A bundle at one target and precision."""

    backbone: str
    tap: str
    selector: str
    classifier: str
    target: str
    precision: str
    pareto: bool  # Whether no other row is faster and as accurate, as far as their intervals tell (`verdict.front`)


@final
class FailedRow(Subject):
    """A row that could not be measured."""

    target: str
    precision: str
    error: str  # What went wrong, in one line


class Reply(TypedDict, total=False):
    """A line that a row's process writes; after the job it is empty."""

    share: float  # Part of the row's work that is done, from 0 to 1
    figures: Figures
    answers: Sequence[int]  # Number of the class that each file got, -1 for a file that could not be read
    error: str  # What went wrong, in one line
