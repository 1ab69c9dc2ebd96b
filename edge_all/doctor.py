"""What this machine is, and which of a bundle's graphs can be trusted on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NotRequired, TypedDict

from edge_all import bench, machine, targets
from edge_all.bench.rows import ProbeResult
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError, TargetError
from edge_all.journal import Journal
from edge_all.record import MachineRecord
from edge_all.targets import EngineOptions

_ROUGHLY = bench.Effort(images=None, queries=300, seconds=1.0)


class Check(TypedDict):
    """How one of the bundle's graphs did on this machine."""

    target: str
    precision: str | None  # Null where the target is not there at all
    available: bool  # Whether the graph could be run
    error: NotRequired[str]  # Why not
    probe: NotRequired[ProbeResult]
    engine: NotRequired[str]  # Engine, version and device
    graph_ms: NotRequired[float]  # Median time of the engine for one image, roughly, in milliseconds


class Devices(TypedDict):
    """What the installed engines can run on."""

    onnxruntime: Sequence[str]  # Execution providers
    openvino: Mapping[str, str]  # Full name of each device; empty where OpenVINO is not installed


class Recommendation(TypedDict):
    """The graph to use on this machine; target and precision are null where none can be used."""

    target: str | None
    precision: str | None
    why: str


class LastRun(TypedDict):
    """The last run of fields that this bundle answered here, by the journal."""

    time: str  # Of its last field
    file: str  # Its last field
    score: float  # Above 1 the run is unlike the training images
    run: int  # How many fields it has


class Examination(TypedDict):
    """What `examine` gives, and ``edge-all doctor --json`` prints."""

    machine: MachineRecord
    devices: Devices
    bundle: str  # Its path
    name: str
    digest: str  # Of the bundle's record
    checks: Sequence[Check]
    recommendation: Recommendation
    drift: LastRun | None  # Null where the journal has no run of this bundle


def examine(bundle: Bundle, chosen: Sequence[str] = (), options: EngineOptions = targets.DEFAULT) -> Examination:
    """Run each of a bundle's graphs on the bundle's probe, in a process of its own.

    Args:
        bundle: The bundle.
        chosen: Targets; empty is all that the bundle holds.
        options: How the engines are to run; `target` is replaced.
    """
    cases: list[bench.Case] = []
    checks: list[Check] = []
    for target in chosen or bundle.targets:
        try:
            targets.check_available(target)
            if not bundle.precisions(target):
                raise TargetError(f"the bundle is not made for it; it is made for {', '.join(bundle.targets)}")
            for precision in bundle.precisions(target):
                targets.check_available(target, precision)
                cases.append(bench.Case(bundle, precision, replace(options, target=target)))
        except EdgeAllError as error:
            checks.append({"target": target, "precision": None, "available": False, "error": str(error)})
    checks += map(_check, bench.run(cases, effort=_ROUGHLY))
    return {
        "machine": machine.describe(),
        "devices": devices(),
        "bundle": str(bundle.path),
        "name": bundle.name,
        "digest": bundle.digest,
        "checks": checks,
        "recommendation": recommend(checks),
        "drift": None,
    }


def last_run(bundle: Bundle, journal: Journal) -> LastRun | None:
    """The last run of fields that a bundle answered here; None where there is none."""
    entry, drift = journal.last_run(bundle.digest), bundle.drift
    if not drift or not entry or entry.drift is None:
        return None
    return {"time": entry.time, "file": entry.file, "score": entry.drift, "run": drift["run"]}


def _check(row: bench.Row | bench.FailedRow) -> Check:
    if "error" in row:
        return {"target": row["target"], "precision": row["precision"], "available": False, "error": row["error"]}
    return {
        "target": row["target"],
        "precision": row["precision"],
        "available": True,
        "probe": row["probe"],
        "engine": row["engine"],
        "graph_ms": row["graph_ms"]["p50"],
    }


def devices() -> Devices:
    """ONNX Runtime's execution providers, and OpenVINO's devices by name."""
    import onnxruntime

    by_name: dict[str, str] = {}
    try:
        import openvino

        core = openvino.Core()
        for name in core.available_devices:
            by_name[name] = name
            with suppress(RuntimeError):  # a driver that does not answer
                by_name[name] = str(core.get_property(name, "FULL_DEVICE_NAME"))
    except ImportError:
        pass
    return {"onnxruntime": list(onnxruntime.get_available_providers()), "openvino": by_name}


def recommend(checks: Sequence[Check]) -> Recommendation:
    """The fastest of the graphs that answer the probe correctly here, with a warning about each that does not."""
    correct = [check for check in checks if check["available"] and check["probe"]["passed"]]
    if not correct:
        return {"target": None, "precision": None, "why": "nothing here answers as on the machine that made the bundle"}
    best = min(correct, key=lambda check: check["graph_ms"])
    why = f"the fastest that answers the probe as on the machine that made the bundle: {best['graph_ms']:.2f} ms"
    for check in checks:
        if check["available"] and not check["probe"]["passed"]:
            off = check["probe"]["max_difference"]
            why += f"; {check['precision']} on {check['target']} is off by {off:.2f} here: do not use it"
    return {"target": best["target"], "precision": best["precision"], "why": why}


def remark(instruction_sets: Sequence[str]) -> str | None:
    """What a CPU without integer dot products means for INT8; None where it has them, or the system does not say."""
    if machine.has_integer_dot_product(instruction_sets) is not False:
        return None
    return (
        "This CPU has no integer dot product (VNNI, AMX): INT8 gains less here, and 8-bit weights can overflow; "
        "bundles made with 7-bit weights cannot."
    )
