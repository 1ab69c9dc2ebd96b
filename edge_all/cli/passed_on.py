"""The words of a command that a service is to run: checked as the command checks them, and made such that they hold
in any folder."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edge_all.errors import ServiceError
from edge_all.progress import Tell
from edge_all.service import Plan, manager, unit

COMMANDS = ("serve", "watch")

_OUTPUTS = ("out", "journal_path", "log_path")
"""Parameters that name a file which is written."""

_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


def plan(words: Sequence[str], account: str | None, devices: frozenset[str], tell: Tell) -> Plan:
    """What is to run, and what it needs.

    Args:
        words: ``serve`` or ``watch`` and its options; ``serve`` may be left out.
        account: The user that it runs as.
        devices: Kinds of devices that it opens, beside those that its options tell of.
        tell: Says what was left out of the choice of a bundle.

    Raises:
        UsageError: The command would refuse the words.
        ServiceError: It could not run so.
    """
    name, *rest = words if words and words[0] in COMMANDS else ["serve", *words]
    command: click.Command = import_module(f"edge_all.cli.{name}").command
    given = _given(command.make_context(f"edge-all {name}", [*rest, *_added(command, rest, tell)]))
    values: dict[str, Any] = {parameter.name or "": value for parameter, value in given}
    token = values.get("token_file")
    system = manager.is_system() and sys.platform != "win32"
    writes = {values[key].parent for key in _OUTPUTS if key in values}
    if values.get("move"):
        writes |= set(values["folders"])
    if "keep" in values:
        writes.add(values["keep"])
    made = Plan(
        words=(*_program(), name, *_words(given, {"token_file": unit.TOKEN} if system else {})),
        reads=tuple(_reads(values, secret=not system)),
        writes=tuple(sorted(path for path in writes if path != manager.folder())),
        devices=devices | _devices(values),
        account=account,
        token=token if system else None,
        network=_network(name, values),
        notifies=name == "serve",
        generates_code=values.get("target", "cpu") != "cpu",
    )
    _check(made, token, system)
    return made


Given = list[tuple[click.Parameter, Any]]


def _given(context: click.Context) -> Given:
    """The parameters that were given, with whole paths."""
    return [
        (parameter, _whole(context.params[parameter.name or ""]))
        for parameter in context.command.params
        if context.get_parameter_source(parameter.name or "") == ParameterSource.COMMANDLINE
    ]


def _whole(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_whole, value))
    return Path(os.path.abspath(value)) if isinstance(value, Path) else value


def _words(given: Given, instead: Mapping[str, str]) -> Iterator[str]:
    arguments: list[str] = []
    for parameter, value in given:
        values = value if isinstance(value, tuple) else (instead.get(parameter.name or "", value),)
        if isinstance(parameter, click.Argument):
            arguments += map(str, values)
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            yield parameter.opts[0]
        else:
            for each in values:
                yield from (parameter.opts[0], str(each))
    yield from arguments


def _added(command: click.Command, rest: Sequence[str], tell: Tell) -> Iterator[str]:
    """What the command would take from the current folder, the environment or the user, and the service cannot."""
    values = command.make_context(f"edge-all {command.name}", list(rest)).params
    if values["path"] is None:
        from edge_all import bundle as bundles

        chosen = bundles.default(tell)
        if chosen != bundles.BUILTIN:
            yield from ("--bundle", str(chosen))
    if values["keys"] is None and os.environ.get("EDGE_ALL_KEYS"):
        yield from ("--keys", os.environ["EDGE_ALL_KEYS"])
    if (folder := manager.folder()) is None:
        return
    if values["journal_path"] is None:
        yield from ("--journal", str(folder / "journal.sqlite"))
    if sys.platform == "win32" and values["log_path"] is None:
        yield from ("--log", str(folder / "edge-all.log"))


def _program() -> list[str]:
    program = Path(sys.executable).with_name("edge-all.exe" if sys.platform == "win32" else "edge-all")
    if program.exists():
        return [str(program)]
    return [sys.executable, "-P", "-c", "from edge_all.cli import main; main()"]


def _reads(values: Mapping[str, Any], *, secret: bool) -> Iterator[Path]:
    """What is read: what the options name, and the program itself."""
    yield from values.get("folders", ())
    for name in ("path", "keys", "camera", *(("token_file",) if secret else ())):
        if isinstance(values.get(name), Path):
            yield values[name]
    yield from dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parent.parent))


def _devices(values: Mapping[str, Any]) -> set[str]:
    device = str(values.get("device", "")).upper()
    found = {kind for kind in ("gpu", "npu") if kind.upper() in device}
    if values.get("target") == "gpu":
        found.add("gpu")
    return found | ({"camera"} if values.get("camera") else set())


def _network(name: str, values: Mapping[str, Any]) -> str:
    if name != "serve":
        return "none"
    return "machine" if values.get("host", "127.0.0.1") in _HERE else "all"


def _check(made: Plan, token: Path | None, system: bool) -> None:
    """Check that everything is there, and that the service may read it.

    Raises:
        ServiceError: It is not.
    """
    if made.network == "all" and token is None:
        raise ServiceError(
            "--host beyond this machine needs a token, and a service has no EDGE_ALL_TOKEN: give --token-file FILE"
        )
    for path in (*made.reads, *made.writes, *((token,) if token else ())):
        if not path.exists():
            raise ServiceError(f"{path}: there is no such file or folder; the service could not start")
    if not system or made.account:
        return
    for path in made.reads:
        if closed := _closed(path):
            raise ServiceError(
                f"{path}: the service's own user cannot read it, because {closed} is closed to others; "
                "open it (chmod o+rx), put it elsewhere, or give --account NAME"
            )
    if made.writes:
        raise ServiceError(
            f"{made.writes[0]}: the service's own user cannot write there; give --account NAME, a user who can"
        )


def _closed(path: Path) -> Path | None:
    """The first of a path and the folders above it that others may not read or pass; links are followed."""
    real = Path(os.path.realpath(path))
    for each in (real, *real.parents):
        mode = each.stat().st_mode
        wanted = stat.S_IXOTH if stat.S_ISDIR(mode) else 0
        if each == real:
            wanted |= stat.S_IROTH
        if mode & wanted != wanted:
            return each
    return None
