"""The task of Windows' Task Scheduler: runs from the start of the machine, and again after a failure.

Reference: the schema of tasks, version 1.2, http://schemas.microsoft.com/windows/2004/02/mit/task.
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

from edge_all.service import DESCRIPTION, NAME, Plan

SPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"

LOCAL_SERVICE = "S-1-5-19"
"""Windows' account for services, with the fewest rights."""


def text(plan: Plan, folder: Path) -> str:
    """The task's file; Task Scheduler wants it in UTF-16.

    Args:
        plan: What runs.
        folder: Where it runs.
    """
    ET.register_namespace("", SPACE)
    task = _element("Task", version="1.2")
    about = _under(task, "RegistrationInfo")
    _under(about, "Description", DESCRIPTION)
    start = _under(_under(task, "Triggers"), "BootTrigger")
    _under(start, "Enabled", "true")
    _under(_under(start, "Repetition"), "Interval", "PT5M")  # one that has ended is started; one that runs stays alone
    principal = _under(_under(task, "Principals"), "Principal", id="service")
    _under(principal, "UserId", plan.account or LOCAL_SERVICE)
    if plan.account:
        _under(principal, "LogonType", "S4U")  # without a password, and whether or not the user is logged on
    _under(principal, "RunLevel", "LeastPrivilege")
    settings = _under(task, "Settings")
    for name, value in _SETTINGS.items():
        _under(settings, name, value)
    again = _under(settings, "RestartOnFailure")
    _under(again, "Interval", "PT1M")
    _under(again, "Count", "255")
    command = _under(_under(task, "Actions", Context="service"), "Exec")
    _under(command, "Command", plan.words[0])
    _under(command, "Arguments", subprocess.list2cmdline(plan.words[1:]))
    _under(command, "WorkingDirectory", str(folder))
    ET.indent(task)
    return '<?xml version="1.0" encoding="UTF-16"?>\n' + ET.tostring(task, encoding="unicode") + "\n"


_SETTINGS = {
    "MultipleInstancesPolicy": "IgnoreNew",
    "DisallowStartIfOnBatteries": "false",
    "StopIfGoingOnBatteries": "false",
    "StartWhenAvailable": "true",
    "Enabled": "true",
    "ExecutionTimeLimit": "PT0S",  # none
    "Priority": "5",  # a task is 7 by default, and then its disk and memory come last
}
"""The schema lets them stand in any order."""


def create(file: Path) -> list[str]:
    """The command that makes the task, or replaces it."""
    return ["schtasks", "/create", "/tn", NAME, "/xml", str(file), "/f"]


RUN = ["schtasks", "/run", "/tn", NAME]
END = ["schtasks", "/end", "/tn", NAME]
DELETE = ["schtasks", "/delete", "/tn", NAME, "/f"]
QUERY = ["schtasks", "/query", "/tn", NAME, "/v", "/fo", "list"]


def _element(name: str, **attributes: str) -> ET.Element:
    return ET.Element(f"{{{SPACE}}}{name}", attributes)


def _under(parent: ET.Element, name: str, content: str | None = None, **attributes: str) -> ET.Element:
    child = ET.SubElement(parent, f"{{{SPACE}}}{name}", attributes)
    child.text = content
    return child
