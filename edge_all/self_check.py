"""The self-check of a bundle on a machine: its probe is run once for each precision, and the verdict is remembered.

INT8 kernels differ from CPU to CPU: without VNNI, x86 adds products up in 16 bits, which can saturate. What the
exporting machine measured may not hold elsewhere, so a precision is chosen only once it has answered the probe here.

Only what the probe says is remembered. A precision that cannot be loaded may well be loaded the next time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from edge_all import cache, machine, probe
from edge_all.bundle import Bundle
from edge_all.classifier import Classifier, start
from edge_all.errors import GateError, TargetError
from edge_all.probe import Verdict
from edge_all.progress import Tell
from edge_all.targets import EngineOptions, check_available

_MOST_BYTES = 2**16


def load(bundle: Bundle, options: EngineOptions, precision: str | None, tell: Tell) -> Classifier:
    """Load a bundle into an engine.

    Args:
        bundle: The bundle.
        options: The target, and how its engine is to run.
        precision: ``auto`` is `choose`. Any other is loaded as asked (None is the one that the bundle prefers), and a
            line is told if it answered the probe wrongly here. The probe is only run on a graph from the cache that has
            not been judged.
        tell: Says which precision is not used, or should not be, and why.

    Raises:
        BundleError: The bundle has no graph for that target and precision.
        GateError: As `choose`.
        TargetError: The engine or the device is not there, or it refuses the graph.
    """
    if precision == "auto":
        return choose(bundle, options, tell)
    classifier = start(bundle, options, precision)
    precision, cached = classifier.precision, classifier.engine.cached
    wrong = load_cached(bundle, options, precision)
    if not wrong and cached and load_cached(bundle, options, precision, cached) is None:
        classifier, verdict = check(classifier, options)
        wrong = _difference(verdict)
    if wrong:
        tell(f"{precision} on {options.target} answered differently on this machine ({wrong}): try --precision auto")
    return classifier


def choose(bundle: Bundle, options: EngineOptions, tell: Tell) -> Classifier:
    """Load the bundle's first precision that answers the probe on this machine as on the machine that exported it.

    Args:
        bundle: The bundle.
        options: The target, and how its engine is to run.
        tell: Says which precision is not used, and why.

    Raises:
        GateError: All precisions were loaded, and none does.
        TargetError: The target is not there, or a precision cannot be loaded and no other answers as it should.
    """
    target = options.target
    check_available(target)
    failed: TargetError | None = None
    skipped: dict[str, str] = {}
    for precision in bundle.precisions(target) or (bundle.model_file(target, "int8"),):
        try:
            classifier = _load_sound(bundle, options, precision)
        except TargetError as error:
            failed = failed or error
            skipped[precision] = f"cannot be loaded now ({error})"
        except GateError as error:
            skipped[precision] = f"answers differently on this machine ({error})"
        else:
            for other, why in skipped.items():
                tell(f"{other} on {target} {why}: using {precision}; run edge-all doctor")
            return classifier
    for other, why in skipped.items():
        if not (failed and str(failed) in why):
            tell(f"{other} on {target} {why}")
    if failed:
        raise failed
    raise GateError(
        f"{bundle.name}: no precision for target {target} reproduces the bundle's probe on this machine; "
        "try another --target, or export the bundle again"
    )


def check(classifier: Classifier, options: EngineOptions) -> tuple[Classifier, Verdict]:
    """Run the probe, and remember its verdict on what the engine has loaded.

    A graph from the cache that answers wrongly says nothing of the bundle's own, which is then compiled and judged.

    Args:
        classifier: Loaded with `options`.
        options: The target, and how its engine is to run.

    Returns:
        The classifier that was judged, and the verdict.

    Raises:
        BundleError: The probe has no answers for this target and precision.
        TargetError: The engine fails.
    """
    bundle, precision = classifier.bundle, classifier.precision
    verdict, cached = None, classifier.engine.cached
    try:
        verdict = probe.check(classifier)
    except Exception:  # a graph from the cache may be anything
        if not cached:
            raise
    if not verdict or (cached and (not verdict.passed or load_cached(bundle, options, precision))):
        cached = None
        classifier = start(bundle, replace(options, reuse=False), precision)
        verdict = probe.check(classifier)
    case = _case(bundle, options, precision, cached)
    cache.store(_file(case), json.dumps({**case, "wrong": _difference(verdict)}, indent=1).encode())
    return classifier, verdict


def load_cached(bundle: Bundle, options: EngineOptions, precision: str, cached: str | None = None) -> str | None:
    """The verdict of an earlier check here: what is wrong, "" where nothing is; None if there was no check.

    Args:
        bundle: The bundle.
        options: The target and the device.
        precision: ``fp32``, ``fp16`` or ``int8``.
        cached: SHA-256 of the compiled graph that was loaded from the cache; None is the bundle's own graph.
    """
    case = _case(bundle, options, precision, cached)
    try:
        verdict = json.loads(cache.load(_file(case), _MOST_BYTES) or b"")
        wrong = verdict.pop("wrong")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return wrong if verdict == case and isinstance(wrong, str) else None


def _load_sound(bundle: Bundle, options: EngineOptions, precision: str) -> Classifier:
    """Load a precision that answers, or once answered, the probe as it should.

    Raises:
        GateError: It does not; the message is the difference.
    """
    if wrong := load_cached(bundle, options, precision):
        raise GateError(wrong)
    classifier = start(bundle, options, precision)
    if load_cached(bundle, options, precision, classifier.engine.cached) is None:
        classifier, verdict = check(classifier, options)
        if not verdict.passed:
            raise GateError(_difference(verdict))
    return classifier


def _difference(verdict: Verdict) -> str:
    """What is wrong with the answers; "" where nothing is."""
    if verdict.passed:
        return ""
    return f"{verdict.same_label} of {verdict.images} labels, probabilities off by up to {verdict.max_difference:.3f}"


def _case(bundle: Bundle, options: EngineOptions, precision: str, cached: str | None) -> dict[str, object]:
    """What a verdict is about."""
    return {
        "machine": machine.identity(),
        "bundle": bundle.digest,
        "target": options.target,
        "precision": precision,
        "device": options.device,
        "compiled": cached,
    }


def _file(case: Mapping[str, object]) -> str:
    return f"checks/{hashlib.sha256(json.dumps(case).encode()).hexdigest()[:32]}.json"
