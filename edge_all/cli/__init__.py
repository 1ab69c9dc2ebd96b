"""The ``edge-all`` command: one thin file a subcommand, each imported only when it is used."""

from __future__ import annotations

import os
import pkgutil
import sys
from importlib import import_module

import click

from edge_all import __version__
from edge_all.errors import EdgeAllError

_HIDDEN = frozenset({"bar", "estimate", "options", "output"})


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

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort, click.ClickException, BrokenPipeError):
            raise
        except EdgeAllError as error:
            if ctx.params["debug"]:
                raise
            click.echo(f"edge-all: {error}", err=True)
            ctx.exit(error.exit_code)
        except Exception as error:
            if ctx.params["debug"]:
                raise
            reason = " ".join(str(error).split()) or "no reason given"
            click.echo(
                f"edge-all: unexpected {type(error).__name__}: {reason} (edge-all --debug shows where)", err=True
            )
            ctx.exit(1)


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
        cli()
    except BrokenPipeError:  # whoever read our output has closed it, which is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
