"""The service of the system: what runs, what it may do, and what is refused before it is installed."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers_command import Command

from edge_all.bundle import Bundle
from edge_all.cli import cli, passed_on
from edge_all.errors import ServiceError
from edge_all.service import Plan, manager, task, unit

linux = pytest.mark.skipif(sys.platform != "linux", reason="services of Linux")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The service of a machine without systemd, whose unit is put into a folder; nothing is closed to it."""
    monkeypatch.setattr(manager, "is_system", lambda: True)
    monkeypatch.setattr(manager, "_path", lambda: tmp_path / "units" / "edge-all.service")
    monkeypatch.setattr(manager, "_RUNS", tmp_path / "no systemd")
    monkeypatch.setattr(passed_on, "_closed", lambda path: None)
    monkeypatch.delenv("EDGE_ALL_KEYS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(*words: object, account: str | None = None, devices: frozenset[str] = frozenset()) -> Plan:
    return passed_on.plan([str(word) for word in words], account, devices, print)


def lines(text: str) -> dict[str, list[str]]:
    """Settings of a unit, by their names."""
    found: dict[str, list[str]] = {}
    for name, _, value in (line.partition("=") for line in text.splitlines() if "=" in line):
        found.setdefault(name, []).append(value)
    return found


@linux
def test_what_runs_holds_in_any_folder(system: Path) -> None:
    (system / "my images").mkdir()
    plan = made("--watch", "my images", "--target", "openvino", "--rate", "50")
    words = ["serve", "--target", "openvino", "--rate", "50.0", "--journal", "/var/lib/edge-all/journal.sqlite"]
    assert plan.words[-9:] == (*words, "--watch", str(system / "my images"))
    assert Path(plan.words[0]).is_absolute() and plan.generates_code and not plan.writes
    assert system / "my images" in plan.reads and plan.network == "machine"


@linux
def test_the_bundle_and_the_keys_are_those_of_now(
    system: Path, colour_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(colour_bundle.path, system / "models" / "mine")
    (system / "a.pub").touch()
    monkeypatch.setenv("EDGE_ALL_KEYS", "a.pub")
    words = made().words
    assert words[words.index("--bundle") + 1] == str(system / "models" / "mine")
    assert words[words.index("--keys") + 1] == str(system / "a.pub")


@linux
@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (("--watch", "none"), "there is no such file or folder"),
        (("--host", "0.0.0.0"), "give --token-file"),
        (("watch", ".", "--move"), "give --account"),
        (("--bundle", "https://example.org/b.zip"), "a URL is not fetched"),
    ],
)
def test_what_could_not_run_is_refused(system: Path, words: tuple[str, ...], wrong: str) -> None:
    with pytest.raises(Exception, match=wrong):
        made(*words)


@linux
@pytest.mark.parametrize("words", [("--prot", "1"), ("watch",), ("--port", "many"), ("serve", "serve")])
def test_what_the_command_refuses_is_refused(system: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        made(*words)
    assert CliRunner().invoke(cli, ["service", "show", "--", *words]).exit_code == 2


@linux
def test_a_folder_that_is_closed_to_the_service_is_named(
    system: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    folder = tmp_path / "closed" / "images"
    folder.mkdir(parents=True)
    assert passed_on._closed(folder) not in (folder, folder.parent)
    folder.parent.chmod(0o750)
    assert passed_on._closed(folder) == folder.parent
    folder.chmod(0o711)
    assert passed_on._closed(folder) == folder
    monkeypatch.setattr(manager, "is_system", lambda: True)
    with pytest.raises(ServiceError, match="closed to others"):
        made("--watch", folder)
    assert made("--watch", folder, account="somebody").account == "somebody"


@linux
def test_the_unit_forbids_what_is_not_needed(system: Path) -> None:
    settings = lines(unit.text(made("--target", "cpu"), system=True))
    assert settings["DynamicUser"] == ["yes"] and settings["ProtectSystem"] == ["strict"]
    assert settings["MemoryDenyWriteExecute"] == ["yes"] and settings["CapabilityBoundingSet"] == [""]
    assert settings["IPAddressDeny"] == ["any"] and settings["PrivateDevices"] == ["yes"]
    assert "ReadWritePaths" not in settings and settings["Type"] == ["notify"]


@linux
def test_the_unit_opens_what_is_needed(system: Path) -> None:
    (system / "token").write_text("a-token-that-nobody-guesses")
    given = ("--host", "0.0.0.0", "--token-file", "token", "--target", "openvino", "--device", "GPU")
    settings = lines(unit.text(made(*given, devices=frozenset({"camera"})), system=True, groups=["video", "mail"]))
    assert "IPAddressDeny" not in settings and settings["MemoryDenyWriteExecute"] == ["no"]
    assert {"char-drm rw", "char-video4linux rw"} <= set(settings["DeviceAllow"])
    assert settings["SupplementaryGroups"] == ["video"] and "PrivateDevices" not in settings
    assert settings["LoadCredential"] == [f"token:{system / 'token'}"]
    assert "--token-file %d/token" in settings["ExecStart"][0] and str(system / "token") not in settings["ExecStart"][0]


@linux
def test_a_camera_is_opened_and_its_frames_are_kept(system: Path) -> None:
    (system / "rig.cfg").touch()
    (system / "frames").mkdir()
    plan = made("--camera", "rig.cfg", "--keep", "frames", account="lab")
    assert plan.devices == {"camera"} and system / "rig.cfg" in plan.reads and plan.writes == (system / "frames",)
    settings = lines(unit.text(plan, system=True))
    assert "char-video4linux rw" in settings["DeviceAllow"] and "AF_NETLINK" in settings["RestrictAddressFamilies"][0]
    assert not made("--camera", "rig.cfg").writes
    with pytest.raises(ServiceError, match="missing.cfg: there is no such file"):
        made("--camera", "missing.cfg")


@linux
def test_watch_may_write_where_it_moves_to_and_has_no_network(system: Path) -> None:
    (system / "in %").mkdir()
    plan = made("watch", "in %", "--move", "--out", "answers.csv", account="lab")
    settings = lines(unit.text(plan, system=True))
    assert settings["ReadWritePaths"] == [f'-{system} "-{system}/in %%"']
    assert settings["PrivateNetwork"] == ["yes"] and settings["User"] == ["lab"] and settings["Type"] == ["exec"]


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("plain", "plain"),
        ("/a b", '"/a b"'),
        ("100%", '"100%%"'),
        ("$HOME", '"$$HOME"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("", '""'),
        (";", '";"'),
        ("it's", '"it\'s"'),
    ],
)
def test_a_word_stands_for_itself(word: str, quoted: str) -> None:
    assert unit.quoted(word) == quoted


@linux
@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_systemd_reads_the_unit_as_it_is_meant(system: Path, target: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd is not installed")
    odd = system / 'it\'s 100% $PATH; a\\b "c"'
    odd.mkdir()
    folder = system / "100% $PATH; a b"
    folder.mkdir()
    program = folder / "edge-all"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    plan = Plan(words=(str(program), "serve", str(odd)), reads=(odd,), writes=(odd,), generates_code=target != "cpu")
    file = system / "edge-all.service"
    file.write_text(unit.text(plan, system=True))
    done = subprocess.run([analyze, "verify", file], capture_output=True, text=True)
    about_it = [line for line in done.stderr.splitlines() if "edge-all" in line]
    assert done.returncode == 0 and not about_it, done.stderr
    file.write_text(file.read_text().replace("100%% $PATH", "100%% $OTHER"))
    assert "edge-all" in subprocess.run([analyze, "verify", file], capture_output=True, text=True).stderr
    scored = subprocess.run([analyze, "security", "--offline=true", file], capture_output=True, text=True)
    score = re.search(r"exposure level for edge-all.service: ([\d.]+)", scored.stdout)
    assert score and float(score[1]) <= 1.5


def test_a_program_that_systemd_does_not_start_is_refused() -> None:
    with pytest.raises(ServiceError, match="install it elsewhere"):
        unit.text(Plan(words=("/opt/it's/edge-all",)), system=True)


@linux
def test_install_writes_the_unit_and_says_what_to_run(system: Path) -> None:
    told: list[str] = []
    plan = made()
    manager.install(plan, told.append)
    assert (system / "units" / "edge-all.service").read_text() == manager.text(plan)
    assert sum("where it does: systemctl" in line for line in told) == 3
    with pytest.raises(ServiceError, match="systemd does not run"):
        manager.status()
    manager.uninstall(told.append)
    assert not list((system / "units").iterdir()) and "/var/lib/edge-all" in told[-1]
    with pytest.raises(ServiceError, match="there is no such service"):
        manager.uninstall(told.append)


@linux
def test_install_starts_the_service_where_systemd_runs(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "no systemd").mkdir()
    program = system / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {system}/calls\n[ "$1" != restart ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(system), prepend=":")
    with pytest.raises(ServiceError, match="systemctl restart edge-all.service: failed"):
        manager.install(made(), print)
    calls = (system / "calls").read_text().splitlines()
    assert calls == ["daemon-reload", "enable edge-all.service", "restart edge-all.service"]


@linux
def test_show_prints_the_unit_and_changes_nothing(system: Path, edge_all: Command) -> None:
    shown = edge_all("service", "show", "--", "--port", "8020")
    assert shown.returncode == 0 and "--port 8020" in shown.stdout and "[Install]" in shown.stdout
    assert not list(system.iterdir())


@linux
def test_a_user_has_a_service_of_his_own_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(manager, "is_system", lambda: False)
    monkeypatch.setattr(manager, "_RUNS", tmp_path / "none")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    told: list[str] = []
    manager.install(made("--watch", tmp_path), told.append)
    settings = lines((tmp_path / "systemd" / "user" / "edge-all.service").read_text())
    assert settings["WantedBy"] == ["default.target"] and "--journal" not in settings["ExecStart"][0]
    assert "DynamicUser" not in settings and "ProtectSystem" not in settings
    assert any("systemctl --user enable" in line for line in told) and "enable-linger" in told[-1]


def test_elsewhere_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, edge_all: Command) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ServiceError, match="LaunchAgents"):
        manager.check_system()


def test_the_task_is_what_task_scheduler_reads() -> None:
    """By its schema: the names, the order where it counts, and the limits of numbers. There is no Windows here."""
    words = (r"C:\Program Files\edge all\edge-all.exe", "serve", "--watch", 'D:\\my "images" & more\\', "--log", "x")
    text = task.text(Plan(words=words), Path(r"C:\ProgramData\edge-all"))
    root = ET.fromstring(text.encode("utf-16"))
    space = f"{{{task.SPACE}}}"
    assert root.tag == f"{space}Task" and root.get("version") == "1.2" and text.startswith("<?xml")
    parts = ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
    assert [part.tag for part in root] == [space + part for part in parts]

    def said(path: str) -> str | None:
        return root.findtext("/".join(space + name for name in path.split("/")))

    assert said("Principals/Principal/UserId") == "S-1-5-19"
    assert said("Principals/Principal/RunLevel") == "LeastPrivilege"
    assert root.find(f"{space}Actions").get("Context") == root.find(f".//{space}Principal").get("id")  # type: ignore[union-attr]
    trigger = root.find(f"{space}Triggers/{space}BootTrigger")
    assert trigger is not None and [part.tag for part in trigger] == [f"{space}Enabled", f"{space}Repetition"]
    assert said("Settings/ExecutionTimeLimit") == "PT0S" and said("Settings/MultipleInstancesPolicy") == "IgnoreNew"
    assert 1 <= int(said("Settings/RestartOnFailure/Count") or 0) <= 255
    assert re.fullmatch(r"PT\d+M", said("Settings/RestartOnFailure/Interval") or "")
    assert said("Actions/Exec/Command") == words[0]
    assert said("Actions/Exec/Arguments") == r'serve --watch "D:\my \"images\" & more\\" --log x'
    named = task.text(Plan(words=words, account=r"LAB\anna"), Path("x"))
    assert "<LogonType>S4U</LogonType>" in named and r"<UserId>LAB\anna</UserId>" in named


@linux
def test_the_server_says_that_it_is_ready(
    colour_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from helpers_serve import serving

    if sys.platform == "win32":
        pytest.skip("POSIX has it, Windows has not")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager_of_units:
        manager_of_units.bind(str(tmp_path / "n"))
        manager_of_units.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        with serving(colour_bundle, tmp_path / "journal.sqlite"):
            assert manager_of_units.recv(100) == b"READY=1\nWATCHDOG=1"
