"""The self-check of a bundle on a machine: its probe is run once for each precision, and the result is cached.

INT8 kernels differ from CPU to CPU: without VNNI, x86 adds products up in 16 bits, which can saturate. What the
exporting machine measured may not hold elsewhere, so a precision is chosen only once it has answered the probe here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edge_all import cache, machine, probe
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier, start
from edge_all.errors import GateError, TargetError
from edge_all.progress import Tell
from edge_all.targets import EngineOptions, check_available


def choose(bundle: Bundle, options: EngineOptions, tell: Tell) -> Classifier:
    """Load the bundle's first precision that answers the probe on this machine as on the machine that exported it.

    Args:
        bundle: The bundle.
        options: The target, and how its engine is to run.
        tell: Says which precision is not used, and why.

    Raises:
        GateError: No precision does.
        TargetError: The target is not there.
    """
    target = options.target
    check_available(target)
    precisions = bundle.precisions(target) or (bundle.model_file(target, "int8"),)
    for i, precision in enumerate(precisions):
        wrong = load_cached(bundle, options, precision)
        classifier = None
        if wrong is None:
            try:
                classifier = start(bundle, options, precision)
                wrong = _check(classifier)
            except TargetError as error:
                wrong = str(error)
            _store(bundle, options, precision, wrong)
        if not wrong:
            return classifier or start(bundle, options, precision)
        instead = f"using {precisions[i + 1]}; " if i + 1 < len(precisions) else ""
        tell(f"{precision} on {target} answers differently on this machine ({wrong}): {instead}run edge-all doctor")
    raise GateError(
        f"{bundle.name}: no precision for target {target} reproduces the bundle's probe on this machine; "
        "try another --target, or export the bundle again"
    )


def load_cached(bundle: Bundle, options: EngineOptions, precision: str) -> str | None:
    """The result of an earlier check here: what is wrong, "" where nothing is; None if there was no check."""
    try:
        wrong = json.loads(_file(bundle, options, precision).read_text())["wrong"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return wrong if isinstance(wrong, str) else None


def _check(classifier: Classifier) -> str:
    verdict = probe.check(classifier)
    if verdict.passed:
        return ""
    return f"{verdict.same_label} of {verdict.images} labels, probabilities off by up to {verdict.max_difference:.3f}"


def _store(bundle: Bundle, options: EngineOptions, precision: str, wrong: str) -> None:
    cache.store(_file(bundle, options, precision), json.dumps({"wrong": wrong}).encode())


def _file(bundle: Bundle, options: EngineOptions, precision: str) -> Path:
    """A file of the cache for each bundle, target, precision and device on each machine with its engines."""
    key = json.dumps([machine.fingerprint(), bundle.digest, options.target, precision, options.device])
    return cache.folder("checks") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
