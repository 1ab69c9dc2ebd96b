"""``edge-all serve``: answers over HTTP, and the page at the microscope."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click

from edge_all import NOTICE
from edge_all.cli import options
from edge_all.cli.output import log_to, say, tell

_ENVIRONMENT = "EDGE_ALL_TOKEN"

_MOST_TOKEN_BYTES = 4096


@click.command("serve")
@options.answering
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8017,
    show_default=True,
    metavar="N",
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--token-file",
    type=options.LocalPath("a file that holds a token"),
    metavar="FILE",
    help="Answer only who knows the token in this file, or in the variable EDGE_ALL_TOKEN. Needed beyond this machine.",
)
@click.option("--name", "names", multiple=True, metavar="NAME", help="A name of this machine; may be repeated.")
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=200.0,
    show_default=True,
    metavar="N",
    help="Requests a second that one client may make.",
)
@options.journal
@click.option(
    "--watch",
    "folders",
    type=options.LocalPath("a folder"),
    multiple=True,
    metavar="DIR",
    help="Also answer the images that come into this folder, as watch does; may be repeated.",
)
@click.option(
    "--camera",
    type=options.LocalPath("a Micro-Manager configuration"),
    metavar="FILE",
    help="Show the camera of this Micro-Manager configuration live, and answer each field that is still and in focus.",
)
@click.option(
    "--keep",
    type=options.LocalPath("a folder"),
    metavar="DIR",
    help="Folder for the camera's frames that are kept.  [default: frames beside the journal]",
)
@options.log
def command(
    path: Path | None,
    target: str,
    precision: str,
    device: str | None,
    threads: int | None,
    keys: Path | None,
    host: str,
    port: int,
    token_file: Path | None,
    names: tuple[str, ...],
    rate: float,
    journal_path: Path | None,
    folders: tuple[Path, ...],
    camera: Path | None,
    keep: Path | None,
    log_path: Path | None,
) -> None:
    """Answer over HTTP, and show answers on a page: the newest, what is to be reviewed, and counts for a smear.

    Only this machine can reach it, unless --host says otherwise; then a token is needed. What the page and the
    API do is in the documentation, "The page and the API". It ends with Ctrl-C.
    """
    if log_path:
        log_to(log_path)
    _check_installed("serve", ("fastapi", "uvicorn", "python_multipart"))
    _check_camera(camera, keep)
    from edge_all import bundle as bundles
    from edge_all import journal_file, self_check
    from edge_all.camera.micromanager import open_camera
    from edge_all.journal import Journal
    from edge_all.live import Live
    from edge_all.serve import app, server, watching
    from edge_all.serve.camera import Camera
    from edge_all.serve.records import Records
    from edge_all.serve.security import Rules
    from edge_all.serve.service import Service, shared
    from edge_all.targets import EngineOptions

    watching.check(folders)
    rules = Rules(host, _token(token_file), names, rate, app.PUBLIC)
    rules.check()
    listening = server.bind(host, port)
    engine = EngineOptions(target, device, threads, pauses=True)
    live = Live(
        path or bundles.default(tell),
        lambda bundle: shared(self_check.load(bundle, engine, precision, tell)),
        tell,
        keys,
    )
    classifier = live.classifier
    with Journal.open(journal_path or journal_file.default(), tell=tell) as opened:
        service, records = Service(live, tell), Records(opened, tell)
        live_view = None
        if camera:
            frames = keep or opened.path.parent / "frames"
            live_view = Camera(partial(open_camera, camera), frames, service, records.hub)
        watched = [str(folder) for folder in folders]
        running = server.Server(app.make(service, records, rules, watched, live_view), service, records)
        say(f"{classifier.bundle.name}, {classifier.target} {classifier.precision}, journal {opened.path}", err=True)
        say(NOTICE, err=True)
        say(server.address(host, listening))
        watching.begin(folders, opened.path, service)
        running.start(listening)


def _check_installed(extra: str, modules: Sequence[str]) -> None:
    from importlib.util import find_spec

    from edge_all.errors import ServeError, install_hint

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ServeError(f"edge-all serve needs {', '.join(missing)}, not installed here: {install_hint(extra)}")


def _check_camera(configuration: Path | None, keep: Path | None) -> None:
    from edge_all.errors import ServeError

    if configuration is None:
        if keep:
            raise ServeError(f"--keep {keep}: there is no camera whose frames could be kept; wanted --camera FILE too")
        return
    _check_installed("camera", ("pymmcore_plus",))
    if not configuration.is_file():
        raise ServeError(f"--camera {configuration}: there is no such file; wanted a Micro-Manager configuration")


def _token(file: Path | None) -> str | None:
    """The token of a file, or else of the environment; it is never shown."""
    from edge_all.errors import ServeError

    if file is None:
        return os.environ.get(_ENVIRONMENT) or None
    try:
        with open(file, encoding="utf-8") as opened:
            token = opened.read(_MOST_TOKEN_BYTES).strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ServeError(f"--token-file {file}: cannot be read ({reason}); wanted a file that holds a token") from None
    if not token:
        raise ServeError(f"--token-file {file}: it is empty; wanted a file that holds a token")
    return token
