"""Figures for Prometheus, in its text format (https://prometheus.io/docs/instrumenting/exposition_formats)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from edge_all import __version__, disk
from edge_all.serve.camera import Camera
from edge_all.serve.service import Service

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def text(service: Service, disk_free: int | None, camera: Camera | None) -> str:
    """All figures.

    Args:
        service: What answers.
        disk_free: Bytes free where the journal is.
        camera: The camera, if there is one.
    """
    figures, classifier = service.figures, service.classifier
    about = {
        "bundle": classifier.bundle.name,
        "digest": classifier.bundle.digest,
        "target": classifier.target,
        "precision": classifier.precision,
        "version": __version__,
    }
    lines = _metric("info", "gauge", "What answers.", [(about, 1)])
    answers = [({"status": status}, count) for status, count in figures.answers.items()]
    lines += _metric("answers_total", "counter", "Images answered.", answers)
    refused = [({"reason": reason}, count) for reason, count in figures.refused.items()]
    lines += _metric("refused_total", "counter", "Images refused.", refused)
    lines += _metric("answer_seconds_total", "counter", "Time that answers took, waiting included.", figures.seconds)
    lines += _metric("waiting", "gauge", "Requests with an image that are in hand.", figures.waiting)
    lines += _metric("uptime_seconds", "gauge", "Since the start.", round(time.time() - figures.started, 3))
    if verdict := service.verdict(classifier):
        lines += _metric("probe_passed", "gauge", "Whether the probe was answered right.", int(verdict.passed))
    if states := service.live.runs.states():
        scores = [({"source": state.source}, round(state.score, 4)) for state in states]
        about_runs = "The last fields of a source together; above 1 they are unlike the training images."
        lines += _metric("drift", "gauge", about_runs, scores)
    if disk_free is not None:
        lines += _metric("disk_free_bytes", "gauge", "Free where the journal is.", disk_free)
        lines += _metric("disk_low", "gauge", "Whether that disk is nearly full.", int(disk.is_low(disk_free)))
    if camera:
        lines += _camera(camera)
    return "\n".join(lines) + "\n"


def _camera(camera: Camera) -> list[str]:
    seen = camera.figures
    given = _metric("camera_gives_images", "gauge", "Whether the camera gives images.", int(camera.newest is not None))
    return [
        *given,
        *_metric("camera_frames_total", "counter", "Frames looked at.", seen.frames),
        *_metric("camera_settled_total", "counter", "Frames that were still and in focus.", seen.settled),
        *_metric("camera_label_seconds_total", "counter", "From a settled frame to its label.", seen.seconds),
        *_metric("camera_kept_total", "counter", "Frames kept.", seen.kept),
        *_metric("camera_lost_total", "counter", "How often the camera was lost.", seen.lost),
    ]


def _metric(name: str, kind: str, about: str, values: float | Sequence[tuple[Mapping[str, str], float]]) -> list[str]:
    name = f"edge_all_{name}"
    head = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    if isinstance(values, (int, float)):
        return [*head, f"{name} {values}"]
    return head + [
        f"{name}{{{','.join(f'{key}={_quoted(value)}' for key, value in labels.items())}}} {number}"
        for labels, number in values
    ]


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
