"""What this machine is, which every reported figure carries, and what the system says of its processes."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

from edge_all.record import MachineRecord

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
"""Name of each instruction set by its flag in ``/proc/cpuinfo``."""

_INTEGER_DOT_PRODUCT = {"AVX-VNNI", "AVX-512-VNNI", "AMX-INT8", "NEON-DOT"}

_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@cache
def describe() -> MachineRecord:
    """Describe the CPU, the memory, the system and the inference engines."""
    here = identity()
    return {
        "cpu": here["cpu"],
        "instruction_sets": here["instruction_sets"],
        "limited_to": here["limited_to"],
        "cores": usable_cores(),
        "memory_mb": _memory_mb(),
        "system": here["system"],
        "python": platform.python_version(),
        "engines": here["engines"],
    }


class Identity(TypedDict):
    """Everything that may change what an engine does with a graph on this machine; as in `MachineRecord`."""

    cpu: str
    instruction_sets: list[str]
    limited_to: str | None
    system: str
    engines: dict[str, str]


@cache
def identity() -> Identity:
    """What `Identity` says of this machine."""
    return {
        "cpu": _cpu_name() or platform.processor() or platform.machine(),
        "instruction_sets": instruction_sets(),
        "limited_to": os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA"),
        "system": f"{platform.system()} {platform.machine()}",
        "engines": engines(),
    }


def fingerprint() -> str:
    """`identity` in one line."""
    return json.dumps(identity())


def instruction_sets() -> list[str]:
    """The CPU's instruction sets among those that decide the speed and the accuracy of INT8.

    Only Linux lists them; elsewhere the result is empty.
    """
    flags = set((_cpuinfo("flags") or _cpuinfo("Features")).split())
    return [name for flag, name in _INSTRUCTION_SETS.items() if flag in flags]


def has_integer_dot_product(instruction_sets: Sequence[str]) -> bool | None:
    """Whether a CPU adds products of 8 bits in 32 bits (VNNI, AMX); None where the system does not say.

    Without, INT8 gains less, and sums with 8-bit weights can overflow.
    """
    if _INTEGER_DOT_PRODUCT & set(instruction_sets):
        return True
    return False if instruction_sets or sys.platform == "linux" else None


def usable_cores() -> int:
    """Cores that this process may run on, which in a container can be fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    import psutil

    if sys.platform == "win32":
        return len(psutil.Process().cpu_affinity() or ()) or 1
    return psutil.cpu_count() or 1


def engines() -> dict[str, str]:
    """Installed inference engines and their versions."""
    versions = {}
    for name in _ENGINES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MiB.

    On Linux this is VmHWM: ``ru_maxrss`` of getrusage also counts what the parent held at the fork.
    """
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def is_running(pid: int) -> bool:
    """Whether there is a process with this number."""
    import psutil

    try:
        return bool(psutil.pid_exists(pid))
    except OverflowError:
        return False


def _cpu_name() -> str:
    """The CPU's name as the system gives it; empty where it gives none."""
    if sys.platform == "win32":
        import winreg

        with suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _WINDOWS_CPU) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
        return ""
    if sys.platform == "darwin":
        import subprocess

        with suppress(OSError):
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        return ""
    return _cpuinfo("model name")


_WINDOWS_CPU = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _memory_mb() -> int:
    """Memory of the machine; 0 where the system does not say."""
    import psutil

    try:
        return int(psutil.virtual_memory().total) // 2**20
    except (OSError, RuntimeError, ValueError):
        return 0
