"""The unit of systemd: what the service may do is written out, and everything else is taken from it.

Reference: ``man systemd.exec``, ``man systemd.service``. ``systemd-analyze security`` scores the result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from edge_all.errors import ServiceError
from edge_all.service import DESCRIPTION, NAME, Plan

_HOMES, _TEMPORARY = ("/home", "/root", "/run/user"), ("/tmp", "/var/tmp")

_CLASSES = {"camera": ("char-video4linux", "char-usb_device"), "gpu": ("char-drm",), "npu": ("char-accel",)}
"""Groups of devices in /proc/devices."""

_NVIDIA = ("char-nvidia", "char-nvidia-uvm", "char-nvidia-frontend")

_GROUPS = {"camera": ("video", "plugdev"), "gpu": ("render", "video"), "npu": ("render",)}
"""Who may open them, on Debian, Ubuntu and Fedora."""

TOKEN = "%d/token"
"""Where systemd puts the token that it reads as root, for this service alone."""


STATE = f"/var/lib/{NAME}"
"""The folder of the system's service, which systemd makes for it."""


def text(plan: Plan, *, system: bool, groups: Iterable[str] = ()) -> str:
    """The unit's file.

    Args:
        plan: What runs.
        system: For the system's manager; else for that of a user, who can forbid less.
        groups: Groups that exist on this machine.

    Raises:
        ServiceError: systemd would not start the program.
    """
    service = [*_process(plan, system), *_seccomp(plan), *(_walls(plan, set(groups)) if system else ())]
    sections = {
        "Unit": [f"Description={DESCRIPTION}", "After=network.target remote-fs.target", "StartLimitIntervalSec=0"],
        "Service": service,
        "Install": [f"WantedBy={'multi-user' if system else 'default'}.target"],
    }
    return "\n".join("\n".join([f"[{name}]", *lines, ""]) for name, lines in sections.items())


def _process(plan: Plan, system: bool) -> Iterator[str]:
    yield f"Type={'notify' if plan.notifies else 'exec'}"
    program, *words = plan.words
    yield " ".join([f"ExecStart={_program(program)}", *(word if word == TOKEN else quoted(word) for word in words)])
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield "RestartPreventExitStatus=2"
    yield "SuccessExitStatus=130 143"
    yield "TimeoutStartSec=300"
    yield "TimeoutStopSec=30"
    if plan.notifies:
        yield "WatchdogSec=60"
    yield "UMask=0077"
    if system:
        for folder in ("State", "Cache"):
            yield f"{folder}Directory={NAME}"
            yield f"{folder}DirectoryMode=0700"
        yield f"WorkingDirectory={STATE}"
        yield f"Environment=EDGE_ALL_CACHE=%C/{NAME}"
        yield f"User={plan.account}" if plan.account else "DynamicUser=yes"
        if plan.token:
            yield f"LoadCredential=token:{_specifiers(str(plan.token))}"


def _seccomp(plan: Plan) -> Iterator[str]:
    """What needs no right of root to forbid."""
    yield "NoNewPrivileges=yes"
    yield "LockPersonality=yes"
    yield f"MemoryDenyWriteExecute={'no' if plan.generates_code else 'yes'}"
    families = {"none": "AF_UNIX", "machine": "AF_UNIX AF_INET AF_INET6", "all": "AF_UNIX AF_INET AF_INET6"}
    netlink = " AF_NETLINK" if "camera" in plan.devices else ""  # by which libusb learns of cameras
    yield f"RestrictAddressFamilies={families[plan.network]}{netlink}"
    yield "RestrictNamespaces=yes"
    yield "RestrictRealtime=yes"
    yield "RestrictSUIDSGID=yes"
    yield "SystemCallArchitectures=native"
    yield "SystemCallFilter=@system-service"
    yield "SystemCallFilter=~@privileged"
    yield "SystemCallErrorNumber=EPERM"


def _walls(plan: Plan, groups: set[str]) -> Iterator[str]:
    """What only the system's manager can forbid."""
    yield "CapabilityBoundingSet="
    yield "AmbientCapabilities="
    for what in ("Clock", "ControlGroups", "Hostname", "KernelLogs", "KernelModules", "KernelTunables"):
        yield f"Protect{what}=yes"
    yield "ProtectProc=invisible"
    yield "ProtectSystem=strict"
    yield f"ProtectHome={'read-only' if _is_below(plan, _HOMES) else 'yes'}"
    if plan.writes:
        yield "ReadWritePaths=" + " ".join(quoted(f"-{path}", variables=False) for path in plan.writes)
    yield f"PrivateTmp={'no' if _is_below(plan, _TEMPORARY) else 'yes'}"
    yield "RemoveIPC=yes"
    yield "KeyringMode=private"
    if plan.devices:
        yield "DevicePolicy=closed"
        names = [name for device in sorted(plan.devices) for name in _CLASSES[device]]
        for name in names + list(_NVIDIA if "gpu" in plan.devices else ()):
            yield f"DeviceAllow={name} rw"
        wanted = {group for device in plan.devices for group in _GROUPS[device]}
        if wanted & groups:
            yield "SupplementaryGroups=" + " ".join(sorted(wanted & groups))
    else:
        yield "PrivateDevices=yes"
        if not plan.account:
            yield "PrivateUsers=yes"
    if plan.network == "none":
        yield "PrivateNetwork=yes"
    elif plan.network == "machine":
        yield "IPAddressDeny=any"
        yield "IPAddressAllow=localhost"


def _is_below(plan: Plan, folders: Iterable[str]) -> bool:
    """Whether the service needs something in one of these folders."""
    paths = (Path(plan.words[0]), *plan.reads, *plan.writes)
    return any(path.is_relative_to(folder) for path in paths for folder in folders)


def quoted(word: str, *, variables: bool = True) -> str:
    """A word as systemd reads it back: quoted where that is needed, and nothing in it stands for anything else.

    Args:
        word: Any text without a line break.
        variables: Whether ``$`` begins the name of a variable there, as in a command line.
    """
    harmless = _specifiers(word.replace("\\", "\\\\").replace('"', '\\"'))
    if variables:
        harmless = harmless.replace("$", "$$")
    plain = harmless == word and word and not any(c.isspace() or c in "'\"\\;" for c in word)
    return harmless if plain else f'"{harmless}"'


def _program(path: str) -> str:
    """The path of a program, in which systemd expands no variable, and takes no quotes."""
    if any(c in "'\"\\" for c in path):
        raise ServiceError(
            f"{path}: systemd starts no program with a quote or backslash in its path; install it elsewhere"
        )
    return quoted(path, variables=False)


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
