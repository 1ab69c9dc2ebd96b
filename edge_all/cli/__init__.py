"""The ``edge-all`` command: one thin file a subcommand, each imported only when it is used."""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib import import_module
from typing import Any

import click

from edge_all import __version__
from edge_all.cli import output, stop
from edge_all.cli.text import shown
from edge_all.errors import EdgeAllError

_HIDDEN = frozenset(
    {
        "appended",
        "bar",
        "estimate",
        "log",
        "options",
        "output",
        "passed_on",
        "scores",
        "slides",
        "stop",
        "text",
        "tiled",
        "writers",
    }
)


class Commands(click.Group):
    """A group whose subcommands are the files of this folder; their heavy imports wait for their callbacks.

    It is also where an error becomes one line on stderr and an exit status.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [m.name for m in pkgutil.iter_modules(__path__) if m.name not in _HIDDEN]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"{__name__}.{name}").command
        return command

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.ClickException as error:
            raise _harmless(error) from None
        except OSError:  # --help cannot be written
            output.flush()
            raise

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise
        except click.ClickException as error:
            raise _harmless(error) from None
        except EdgeAllError as error:
            if ctx.params["debug"]:
                raise
            output.tell(str(error))
            ctx.exit(error.exit_code)
        except Exception as error:
            if ctx.params["debug"]:
                raise
            if isinstance(error, OSError):
                output.flush()  # which says it better, if this was the reason
            reason = " ".join(str(error).split()) or "no reason given"
            output.tell(f"unexpected {type(error).__name__}: {reason} (edge-all --debug shows where)")
            ctx.exit(1)


def _harmless(error: click.ClickException) -> click.ClickException:
    """A usage error whose message, which may quote what was typed, acts on no terminal."""
    vars(error)["message"] = shown(error.message, keep="\n\t")
    return error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-all")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """Classify acute lymphoblastic leukaemia from blood-smear images.

    Research software, not a medical device.
    """


def main() -> None:
    """Entry point of the installed command."""
    os.environ["PYTHONSAFEPATH"] = "1"  # processes that are started here take no module from the current folder
    try:
        output.prepare()
        stop.at_signals()
        try:
            cli()
        finally:
            output.flush()
    except output.StdoutError as error:
        output.tell(str(error))
        sys.exit(error.exit_code)
    except stop.Stop as end:
        if not end.quiet:
            output.tell("interrupted")
        stop.leave(end.status)
