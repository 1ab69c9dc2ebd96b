"""Gives a service to the system, takes it away, and asks how it is: systemd on Linux, Task Scheduler on Windows."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edge_all import files
from edge_all.errors import ServiceError
from edge_all.progress import Tell
from edge_all.service import NAME, Plan, task, unit

_UNIT = f"{NAME}.service"

_RUNS = Path("/run/systemd/system")
"""Is there while systemd is what started the system (``man sd_booted``)."""


def check_system() -> None:
    """Check that this system's services are known here.

    Raises:
        ServiceError: They are not.
    """
    if sys.platform not in ("linux", "win32"):
        raise ServiceError(
            "services are installed on Linux (systemd) and Windows; here, let the system start `edge-all serve` "
            "itself: on macOS a file in ~/Library/LaunchAgents, see `man launchd.plist`"
        )


def is_system() -> bool:
    """Whether the service is one of the whole machine: for root, and on Windows always."""
    return sys.platform == "win32" or os.geteuid() == 0


def folder() -> Path | None:
    """The folder that the service has for its journal; None where it uses that of its user."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / NAME
    return Path(unit.STATE) if is_system() else None


def text(plan: Plan) -> str:
    """The unit's or the task's file."""
    if sys.platform == "win32":
        return task.text(plan, folder() or Path.cwd())
    import grp

    return unit.text(plan, system=is_system(), groups=[group.gr_name for group in grp.getgrall()])


def install(plan: Plan, tell: Tell) -> None:
    """Write the file, and start the service now and at every start of the machine.

    Raises:
        ServiceError: It may not be written, or the system refuses it.
    """
    if sys.platform == "win32":
        _install_task(plan)
        tell(f"the task {NAME} runs now, and from every start of the machine")
        return
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text(plan), mode=0o644)
    except OSError as error:
        raise ServiceError(f"{path}: cannot be written ({error.strerror or error})") from None
    tell(f"wrote {path}")
    _systemctl(["daemon-reload"], ["enable", _UNIT], ["restart", _UNIT], tell=tell)
    if _RUNS.exists():
        tell(f"the service runs, now and from every start{'' if is_system() else ' of your session'}; what it says:")
        tell(f"journalctl {'' if is_system() else '--user '}-u {NAME}")
    if not is_system():
        tell("to have it run before anybody logs in: loginctl enable-linger")


def uninstall(tell: Tell) -> None:
    """Stop the service and remove its file; the journal stays.

    Raises:
        ServiceError: There is none, or the system refuses.
    """
    if sys.platform == "win32":
        _run(task.END, check=False)
        _run(task.DELETE)
    else:
        path = _path()
        if not path.exists():
            raise ServiceError(f"{path}: there is no such service; `edge-all service install` makes it")
        _systemctl(["disable", "--now", _UNIT], tell=tell)
        try:
            path.unlink()
        except OSError as error:
            raise ServiceError(f"{path}: cannot be removed ({error.strerror or error})") from None
        _systemctl(["daemon-reload"], tell=tell)
    tell(f"the service is removed; its answers stay in {folder() or 'your journal'}")


def status() -> int:
    """Print what the system says of the service.

    Returns:
        What its program exits with: of systemctl, 0 for a service that runs, 3 for one that does not.

    Raises:
        ServiceError: There is none, or the system does not say.
    """
    if sys.platform == "win32":
        return _run(task.QUERY, check=False)
    if not _path().exists():
        raise ServiceError(f"{_path()}: there is no such service; `edge-all service install` makes it")
    if not _RUNS.exists():
        raise ServiceError(f"{_path()} is there, but systemd does not run on this machine")
    return _run([*_program(), "status", "--no-pager", _UNIT], check=False)


def _path() -> Path:
    if is_system():
        return Path("/etc/systemd/system", _UNIT)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / _UNIT


def _program() -> list[str]:
    return ["systemctl"] if is_system() else ["systemctl", "--user"]


def _systemctl(*commands: Sequence[str], tell: Tell) -> None:
    """Run commands of systemctl; where systemd does not run, say what to run where it does."""
    for words in commands:
        command = [*_program(), *words]
        if _RUNS.exists():
            _run(command)
        else:
            tell(f"systemd does not run here; where it does: {shlex.join(command)}")


def _install_task(plan: Plan) -> None:
    with tempfile.TemporaryDirectory() as room:
        file = Path(room, f"{NAME}.xml")
        file.write_text(text(plan), encoding="utf-16")
        if place := folder():
            place.mkdir(parents=True, exist_ok=True)
        _run(task.create(file))
    _run(task.RUN)


def _run(command: Sequence[str], *, check: bool = True) -> int:
    """Run a program of the system, with its output on ours.

    Raises:
        ServiceError: It is not there, or with `check`, it failed.
    """
    try:
        code = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise ServiceError(f"{shlex.join(command)}: {error.strerror or error}") from None
    if check and code:
        raise ServiceError(f"{shlex.join(command)}: failed, as it says above (exit {code})")
    return code
