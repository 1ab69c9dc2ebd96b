"""What this machine is, which every reported figure carries, and what the system says of its processes."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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

_ENGINES = ("onnxruntime", "onnxruntime-gpu", "openvino")


@cache
def describe() -> MachineRecord:
    """Describe the CPU, the memory, the system and the inference engines."""
    return {
        "cpu": _cpu_name() or platform.processor() or platform.machine(),
        "instruction_sets": instruction_sets(),
        "limited_to": os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA"),
        "cores": usable_cores(),
        "memory_mb": _memory_mb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "engines": engines(),
    }


def identity() -> dict[str, object]:
    """Everything that may change what an engine does with a graph on this machine."""
    here = describe()
    return {
        "cpu": here["cpu"],
        "instruction_sets": here["instruction_sets"],
        "limited_to": here["limited_to"],
        "system": here["system"],
        "engines": here["engines"],
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


def usable_cores() -> int:
    """Cores that this process may run on, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        counters = _ProcessMemoryCounters(ctypes.sizeof(_ProcessMemoryCounters))
        kernel32 = ctypes.WinDLL("kernel32")
        kernel32.GetCurrentProcess.restype = ctypes.c_void_p
        process = ctypes.c_void_p(kernel32.GetCurrentProcess())
        if not kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
            return 0.0
        return float(counters.peak_working_set) / 2**20
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
    if sys.platform == "win32":  # os.kill would end the process there
        kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel32.OpenProcess.restype = ctypes.c_void_p
        process = ctypes.c_void_p(kernel32.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid))
        if not process:
            return ctypes.get_last_error() == _ACCESS_DENIED
        code = ctypes.c_uint32()
        known = kernel32.GetExitCodeProcess(process, ctypes.byref(code))
        kernel32.CloseHandle(process)
        return not known or code.value == _STILL_ACTIVE
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


_QUERY_LIMITED_INFORMATION, _ACCESS_DENIED, _STILL_ACTIVE = 0x1000, 5, 259
"""Constants of the Windows API, as are the two structures below."""


class _ProcessMemoryCounters(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("page_faults", ctypes.c_uint32),
        ("peak_working_set", ctypes.c_size_t),
        ("other_counters", ctypes.c_size_t * 7),
    ]


class _MemoryStatus(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        ("physical_bytes", ctypes.c_uint64),
        ("other_bytes", ctypes.c_uint64 * 6),
    ]


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
    if sys.platform == "win32":
        status = _MemoryStatus(ctypes.sizeof(_MemoryStatus))
        known = ctypes.WinDLL("kernel32").GlobalMemoryStatusEx(ctypes.byref(status))
        return int(status.physical_bytes) // 2**20 if known else 0
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (ValueError, OSError):
        return 0
