"""Options that several commands share."""

from __future__ import annotations

import functools
import importlib.util
import math
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click
from click.shell_completion import CompletionItem

from edge_all import limits
from edge_all.errors import EdgeAllError

if TYPE_CHECKING:  # generic in the stubs, and not in click 8.1 at runtime
    _PathType = click.ParamType[Path]
    _NameType = click.ParamType[str]
else:
    _PathType = _NameType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])

TARGETS = ("cpu", "gpu", "openvino")  # edge_all.targets.TARGETS, which would import numpy for the sake of --help

PRECISIONS = limits.PRECISIONS

DEFAULT_BUNDLE = "[default: the newest in ./models, else the built-in one]"

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether a text is a URL, such as ``https://...``, and no path."""
    return _URL.match(text) is not None


class LocalPath(_PathType):
    """A path on this machine; a URL is refused, for nothing here fetches one.

    Args:
        wanted: What the path is to lead to.
    """

    name = "path"

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail(f"an empty path; wanted {self._wanted.rstrip(',')} (. is this folder)", param, ctx)
        if is_url(str(value)) and not Path(value).exists():
            option = param.opts[0] if param else "path"
            raise EdgeAllError(
                f"{option} {value}: a URL is not fetched; wanted {self._wanted} on this machine: download it first"
            )
        return Path(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


PATH = LocalPath("a file or folder")

DATA = LocalPath("a folder that holds one folder of images for each class,")


class PartName(_NameType):
    """The name of a file in one of the toolchain's folders: one new part is one new file.

    The folder is listed without importing anything, so that ``--help`` stays quick and works without the toolchain.
    """

    def __init__(self, folder: str) -> None:
        self.name = self.folder = folder

    def choices(self) -> list[str]:
        """The names, in alphabetical order."""
        spec = importlib.util.find_spec("edge_all.export")
        paths = [str(Path(path, self.folder)) for path in (spec and spec.submodule_search_locations) or ()]
        return [module.name for module in pkgutil.iter_modules(paths)]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self.choices())}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices():
            self.fail(f"{value!r} is not one of {', '.join(self.choices())}.", param, ctx)
        return str(value)


def bundle(command: Command) -> Command:
    """``--bundle PATH``, of which the command is given ``path``."""
    return click.option("--bundle", "path", type=PATH, metavar="PATH", help=f"Bundle to use.  {DEFAULT_BUNDLE}")(
        command
    )


def target(command: Command) -> Command:
    """``--target NAME``."""
    return click.option(
        "--target",
        type=click.Choice(TARGETS),
        default="cpu",
        show_default=True,
        help="What runs the graph: ONNX Runtime on the CPU or on an NVIDIA GPU, or OpenVINO.",
    )(command)


def precision(command: Command) -> Command:
    """``--precision NAME``."""
    return click.option(
        "--precision",
        type=click.Choice(("auto", *PRECISIONS)),
        default="auto",
        show_default=True,
        help="auto: the first one in the bundle that answers its probe on this machine as it should.",
    )(command)


def journal(command: Command) -> Command:
    """``--journal FILE``."""
    return click.option(
        "--journal",
        "journal_path",
        type=PATH,
        metavar="FILE",
        help="Journal of all answers.  [default: edge-all/journal.sqlite in the user's folder for data]",
    )(command)


def log(command: Command) -> Command:
    """``--log FILE``, of which the command is given ``log_path``."""
    return click.option(
        "--log",
        "log_path",
        type=LocalPath("a file"),
        metavar="FILE",
        help="Also write messages into this file, with the time; at 1 MB a new one is begun, and five are kept.",
    )(command)


def threads(command: Command) -> Command:
    """``--threads N`` for one inference."""
    return click.option(
        "--threads",
        type=click.IntRange(min=1),
        metavar="N",
        help="Threads that work on one image.  [default: the engine's choice]",
    )(command)


def keys(command: Command) -> Command:
    """``--keys PATH`` of those whose bundles may be used."""
    return click.option(
        "--keys",
        type=PATH,
        metavar="PATH",
        help="Use a bundle only if one of these public keys has signed it: a file, or a folder of *.pub.  "
        "[default: $EDGE_ALL_KEYS, else any bundle]",
    )(command)


def sign(command: Command) -> Command:
    """``--sign KEY``."""
    return click.option(
        "--sign", type=PATH, metavar="KEY", help="Sign the bundle with this secret key, which minisign has made."
    )(command)


def signer(key: Path) -> Callable[[bytes], bytes]:
    """What signs with a key of ``--sign``; its password is asked for at once, and not after the work."""
    from edge_all import signature

    return signature.signer(key, lambda: str(click.prompt(f"Password of {key}", hide_input=True, err=True)))


def device(command: Command) -> Command:
    """``--device`` of OpenVINO."""
    return click.option("--device", metavar="NAME", help="OpenVINO device: CPU, GPU or NPU.  [default: CPU]")(command)


def answering(command: Command) -> Command:
    """What answers: ``--bundle``, ``--target``, ``--precision``, ``--device``, ``--threads`` and ``--keys``."""
    for option in (keys, threads, device, precision, target, bundle):
        command = option(command)
    return command


def seed(command: Command) -> Command:
    """``--seed N``."""
    return click.option(
        "--seed", type=int, default=0, show_default=True, metavar="N", help="Seed of every random choice."
    )(command)


def labels(command: Command) -> Command:
    """``--labels CSV``."""
    return click.option(
        "--labels",
        type=LocalPath("a CSV file"),
        metavar="CSV",
        help="File with the columns file,label[,group][,split] that names the images and their classes; its paths are "
        "relative to --data, else to the file.",
    )(command)


class Conditions(TypedDict):
    """What `conditions` collects: the fields of `edge_all.export.recipe.Conditions`."""

    data: Path | None
    labels: Path | None
    groups: str | None
    features: int | None
    augment: int
    balance: bool
    equalize: bool
    mask_corner: bool
    size: tuple[int, int] | None
    seed: int


def conditions(*, augment: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that say what the images are and how heads are trained on them, for an export and for a study.

    The command is called with all of them in one argument, ``conditions``, of the type `Conditions`.

    Args:
        augment: Default of ``--augment``.
    """
    shared = [
        click.option(
            "--data",
            type=DATA,
            metavar="DIR",
            help="Images, in one folder for each class, or train/, test/ (and val/) with such folders.  [default: the "
            "public leukaemia set, downloaded from Kaggle]",
        ),
        labels,
        click.option(
            "--groups",
            metavar="CSV|REGEX",
            help="Patient or slide of each image, never on both sides of a split: a file with the columns file,group, "
            "or a regular expression whose first group is searched for in the image's path below --data.",
        ),
        click.option(
            "--features",
            type=click.IntRange(min=1),
            metavar="K",
            help="How many features the selector keeps.  [default: 300; for pca 32]",
        ),
        click.option(
            "--augment",
            type=click.IntRange(0, 20),
            default=augment,
            show_default=True,
            metavar="N",
            help="Also train on N changed copies of every image: turned, tinted, zoomed, blurred.",
        ),
        click.option(
            "--balance",
            is_flag=True,
            help="Make changed copies of the smallest class only, until it is as large as the largest.",
        ),
        click.option(
            "--resize",
            callback=_image_size,
            metavar="WxH",
            help="Input size in pixels, such as the paper's 320x240.  [default: the backbone's own, or what --tap auto "
            "finds to be enough]",
        ),
        click.option("--equalize", is_flag=True, help="Equalize the histogram of every image, as the paper does."),
        click.option(
            "--mask-corner", is_flag=True, help="Paint the bottom right corner, where a scale bar may be, grey."
        ),
        seed,
    ]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def collected(*args: Any, resize: tuple[int, int] | None, **values: Any) -> Any:
            names = Conditions.__annotations__.keys() - {"size"}
            collected: dict[str, Any] = {name: values.pop(name) for name in names}
            return command(*args, conditions=collected | {"size": resize}, **values)

        for option in reversed(shared):
            collected = option(collected)
        return collected

    return decorate


def um_per_px(scale: float | None, cell_px: float | None) -> float | None:
    """Micrometres that a pixel shows, by ``--scale`` or ``--cell``; None where neither was given.

    Raises:
        click.UsageError: Both were given, or no number.
    """
    if any(value is not None and not math.isfinite(value) for value in (scale, cell_px)):
        raise click.UsageError("--scale and --cell want a number such as 0.47 and 16")
    if scale is not None and cell_px is not None:
        raise click.UsageError("--scale and --cell say the same thing; give one of them")
    if cell_px is None:
        return scale
    from edge_all.bundle import RED_CELL_UM

    return RED_CELL_UM / cell_px


def _image_size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Height and width from "WIDTHxHEIGHT"."""
    if value is None:
        return None
    width, _, height = value.partition("x")
    if not (width.isdigit() and height.isdigit() and 32 <= int(width) <= 2048 and 32 <= int(height) <= 2048):
        raise click.BadParameter(f"{value!r}: wanted WIDTHxHEIGHT in pixels, each from 32 to 2048, such as 320x240")
    return int(height), int(width)
