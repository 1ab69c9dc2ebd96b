"""What this machine is, and what of a bundle it can be trusted with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_all import bench, machine, targets
from edge_all.bundle import Bundle
from edge_all.errors import EdgeAllError, TargetError

_ROUGHLY = bench.Effort(images=None, queries=300, seconds=1.0)

_INTEGER_DOT_PRODUCT = {"AVX-VNNI", "AVX-512-VNNI", "AMX-INT8", "NEON-DOT"}


def examine(
    bundle: Bundle, chosen: Sequence[str] = (), device: str | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Run everything that a bundle holds, each in a process of its own, on its probe.

    Args:
        bundle: The bundle.
        chosen: Targets; empty is all that the bundle holds.
        device: OpenVINO device.
        threads: Threads for one inference.

    Returns:
        ``machine``, ``devices``, ``bundle``, ``digest``, ``checks`` (one for each target and precision, with ``probe``
        and a rough ``graph_ms``, or with ``error``) and ``recommendation``.
    """
    cases: list[bench.Case] = []
    checks: list[dict[str, Any]] = []
    for target in chosen or bundle.targets:
        try:
            targets.check_available(target)
            if not bundle.precisions(target):
                raise TargetError(f"the bundle is not made for it; it is made for {', '.join(bundle.targets)}")
            for precision in bundle.precisions(target):
                targets.check_available(target, precision)
                cases.append(bench.Case(bundle, target, precision))
        except EdgeAllError as error:
            checks.append({"target": target, "precision": None, "available": False, "error": str(error)})
    for case, row in zip(cases, bench.run(cases, effort=_ROUGHLY, device=device, threads=threads), strict=True):
        check: dict[str, Any] = {"target": case.target, "precision": case.precision, "available": "error" not in row}
        check |= {key: row[key] for key in ("error", "probe", "engine") if key in row}
        if "graph_ms" in row:
            check["graph_ms"] = row["graph_ms"]["p50"]
        checks.append(check)
    return {
        "machine": machine.describe(),
        "devices": devices(),
        "bundle": str(bundle.path),
        "name": bundle.name,
        "digest": bundle.digest,
        "checks": checks,
        "recommendation": recommend(checks),
    }


def devices() -> dict[str, Any]:
    """ONNX Runtime's execution providers, and OpenVINO's devices by name."""
    import onnxruntime

    found: dict[str, Any] = {"onnxruntime": list(onnxruntime.get_available_providers())}
    try:
        import openvino

        core = openvino.Core()
        found["openvino"] = {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices}
    except ImportError:
        found["openvino"] = {}
    return found


def recommend(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The fastest of those that answer the probe here, and a word on those that do not."""
    sound = [check for check in checks if check["available"] and check["probe"]["passed"]]
    if not sound:
        return {"target": None, "precision": None, "why": "nothing here answers as where the bundle was made"}
    best = min(sound, key=lambda check: check["graph_ms"])
    why = f"the fastest that answers the probe as where the bundle was made: {best['graph_ms']:.2f} ms"
    drifted = [check for check in checks if check["available"] and not check["probe"]["passed"]]
    for check in drifted:
        off = check["probe"]["max_difference"]
        why += f"; {check['precision']} on {check['target']} is off by {off:.2f} here: do not use it"
    return {"target": best["target"], "precision": best["precision"], "why": why}


def remark(instruction_sets: Sequence[str]) -> str | None:
    """What a CPU without integer dot products means for INT8."""
    if _INTEGER_DOT_PRODUCT & set(instruction_sets):
        return None
    return (
        "This CPU has no integer dot product (VNNI, AMX): INT8 gains less here, and 8-bit weights can overflow; "
        "bundles made with 7-bit weights cannot."
    )
