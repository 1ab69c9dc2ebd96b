"""A bundle's first load on a machine: its probe is run, and the verdict remembered.

INT8 kernels differ from CPU to CPU: without VNNI, x86 adds products up in 16 bits, which can saturate. What the
exporting machine measured need not hold here, so a precision is only chosen once it has answered the probe here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from edge_all import cache, machine, probe
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier, start
from edge_all.errors import GateError, TargetError
from edge_all.targets import check_available


def choose(
    bundle: Bundle,
    target: str,
    device: str | None,
    threads: int | None,
    tell: Callable[[str], None],
    streams: int = 1,
) -> Classifier:
    """Load the bundle's first precision that answers the probe on this machine as it did where it was made.

    Args:
        bundle: The bundle.
        target: Where to run it.
        device: OpenVINO device.
        threads: Threads for one inference.
        tell: Says which precision was passed over, and why.
        streams: Threads that will classify at once.

    Raises:
        GateError: None does.
        TargetError: The target is not there.
    """
    check_available(target)
    precisions = bundle.precisions(target) or (bundle.model_file(target, "int8"),)
    for i, precision in enumerate(precisions):
        known = recall(bundle, target, precision, device)
        loaded = None
        if known is None:
            try:
                loaded = start(bundle, target, precision, device, threads, streams)
                known = _judge(loaded)
            except TargetError as error:
                known = str(error)
            _remember(bundle, target, precision, device, known)
        if not known:
            return loaded or start(bundle, target, precision, device, threads, streams)
        instead = f"using {precisions[i + 1]}; " if i + 1 < len(precisions) else ""
        tell(f"{precision} on {target} answers differently on this machine ({known}): {instead}run edge-all doctor")
    raise GateError(
        f"{bundle.name}: nothing of it answers on {target} as where it was made; "
        "try another --target, or export it again"
    )


def recall(bundle: Bundle, target: str, precision: str, device: str | None) -> str | None:
    """What was found here before: what is wrong, "" for nothing, None if it was never tried."""
    try:
        known = json.loads(_file(bundle, target, precision, device).read_text())["wrong"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if isinstance(known, str) else None


def _judge(loaded: Classifier) -> str:
    verdict = probe.check(loaded)
    if verdict.passed:
        return ""
    return f"{verdict.same_label} of {verdict.images} labels, probabilities off by up to {verdict.max_difference:.3f}"


def _remember(bundle: Bundle, target: str, precision: str, device: str | None, wrong: str) -> None:
    cache.store(_file(bundle, target, precision, device), json.dumps({"wrong": wrong}).encode())


def _file(bundle: Bundle, target: str, precision: str, device: str | None) -> Path:
    """One file for each bundle, target and precision on each machine with its engines."""
    key = json.dumps([machine.fingerprint(), bundle.digest, target, precision, device])
    return cache.folder("checks") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
