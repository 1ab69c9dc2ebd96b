"""``edge-all service``: serve or watch, run by the system from its start."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edge_all.cli.output import say, tell
from edge_all.service import DEVICES, Plan

Command = TypeVar("Command", bound=Callable[..., Any])


@click.group("service")
def command() -> None:
    """Run edge-all from the start of the machine, unattended: a unit of systemd, or a task of Windows.

    As root, or as an administrator, it is a service of the machine; else of your own session.
    """
    from edge_all.service import manager

    manager.check_system()


def _what(command: Command) -> Command:
    """The options of what is to run."""
    for decorate in (
        click.argument("words", metavar="[-- [serve|watch] OPTIONS]", nargs=-1, type=click.UNPROCESSED),
        click.option(
            "--allow",
            type=click.Choice(DEVICES),
            multiple=True,
            help="Let it open such devices; may be repeated.  [default: as --camera, --target and --device say]",
        ),
        click.option(
            "--account", metavar="NAME", help="Run as this user.  [default: a user without rights, for this alone]"
        ),
    ):
        command = decorate(command)
    return command


@command.command("install")
@_what
def install(account: str | None, allow: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Install the service, or replace it, and start it.

    What is behind -- are options of edge-all serve, or edge-all watch and its options.
    """
    from edge_all.service import manager

    manager.install(_plan(account, allow, words), tell)


@command.command("show")
@_what
def show(account: str | None, allow: tuple[str, ...], words: tuple[str, ...]) -> None:
    """Print the unit, or the task, and change nothing."""
    from edge_all.service import manager

    for line in manager.text(_plan(account, allow, words)).splitlines():
        say(line)


@command.command("uninstall")
def uninstall() -> None:
    """Stop the service and remove it; the journal stays."""
    from edge_all.service import manager

    manager.uninstall(tell)


@command.command("status")
def status() -> None:
    """Show what the system says of the service; the exit status is 3 if it does not run."""
    from edge_all.service import manager

    sys.exit(manager.status())


def _plan(account: str | None, allow: tuple[str, ...], words: tuple[str, ...]) -> Plan:
    from edge_all.cli import passed_on

    return passed_on.plan(words, account, frozenset(allow), tell)
