"""What this machine is: every figure that is reported carries it."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512-VNNI",
    "avx512_bf16": "AVX-512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimd": "NEON",
    "asimddp": "NEON-DOT",
}

_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@cache
def describe() -> dict[str, Any]:
    """CPU model, instruction sets that matter for INT8, usable cores, memory (MB), system and engine versions.

    ``limited_to`` is the environment's limit on what OpenVINO may use of the instruction sets, or None.
    """
    return {
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction_sets": instruction_sets(),
        "limited_to": os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA"),
        "cores": usable_cores(),
        "memory_mb": _memory_mb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "engines": engines(),
    }


def fingerprint() -> str:
    """All that may change what an engine does with a graph here, in one line of JSON."""
    what = describe()
    return json.dumps([what[key] for key in ("cpu", "instruction_sets", "limited_to", "system", "engines")])


def instruction_sets() -> list[str]:
    """The CPU's instruction sets among those that decide the speed and the rounding of INT8."""
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in _INSTRUCTION_SETS.items() if flag in flags]


def usable_cores() -> int:
    """Cores that this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def engines() -> dict[str, str]:
    """Installed inference engines and their versions."""
    found = {}
    for name in _ENGINES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB.

    Linux's VmHWM where there is one: getrusage's ru_maxrss also counts what the parent held at the fork.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _memory_mb() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError, AttributeError):
        return 0
