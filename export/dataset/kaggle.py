"""The public data set of the paper, fetched from Kaggle: "Acute Lymphoblastic Leukemia (ALL) image dataset".

Aria et al. 2021, DOI 10.34740/KAGGLE/DSV/2175623: 3,256 fields in four classes, for research use.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterator
from pathlib import Path

from edge_all.errors import DataError

HANDLE = "mehradaria/leukemia"
"""Name of the data set on Kaggle."""

TITLE = "Acute Lymphoblastic Leukemia (ALL) image dataset, Aria et al. 2021"

DOI = "10.34740/KAGGLE/DSV/2175623"

CLASSES = frozenset({"Benign", "Early", "Pre", "Pro"})

UNKNOWN = "not stated"
"""The source of images of which the user said nothing."""

_CAUTION = (
    "carry no patient or slide numbers, stain colour alone almost identifies the class, and a burnt-in scale bar "
    "differs by class."
)


def is_leukaemia(classes: Collection[str]) -> bool:
    """Whether these are the classes of the public set, so that an image is a blood-smear field."""
    return frozenset(classes) == CLASSES


def caution(source: str, classes: Collection[str]) -> str:
    """What a reader must know of images of the public set; empty where there is no reason to think that they are some.

    Args:
        source: Where the images come from, in words.
        classes: Their classes.
    """
    name = f"Aria et al. 2021 (Taleqani Hospital, DOI {DOI})"
    if DOI in source or "Taleqani" in source or "Aria et al" in source:
        return (
            f"About the images of {name}: they {_CAUTION} Every figure below is therefore an upper bound for the next "
            "patient."
        )
    if source == UNKNOWN and is_leukaemia(classes):
        return (
            f"The classes are those of {name}. If the images are from there: they {_CAUTION} Every figure below is "
            "then an upper bound for the next patient."
        )
    return ""


_ADVICE = "give a folder with --data DIR, or try `edge-all demo`, which draws its own images"


def download() -> Path:
    """Fetch the data set into kagglehub's cache, or find it there.

    Returns:
        Its ``Original/`` folder: one sub-folder a class.

    Raises:
        DataError: kagglehub is not installed, Kaggle cannot be reached, or what came back has another layout.
    """
    try:
        import kagglehub
    except ImportError:
        raise DataError(f"the data set {HANDLE} is fetched with kagglehub, which is not installed; {_ADVICE}") from None
    try:
        with _quiet():
            folder = Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # requests, kagglesdk and kagglehub raise their own trees, none of them documented
        message = " ".join(str(error).split())
        reason = message if 0 < len(message) <= 100 else type(error).__name__  # without a network: a page of retries
        raise DataError(f"the data set {HANDLE} cannot be fetched from Kaggle ({reason}); {_ADVICE}") from None
    folders = [folder, *folder.rglob("Original")]
    original = [path for path in folders if path.name == "Original" and path.is_dir()]
    if not original:
        raise DataError(f"{folder}, fetched from Kaggle, holds no Original/ folder; {_ADVICE}")
    return min(original, key=lambda path: (len(path.parts), path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep kagglehub's progress bars, notices and log lines off both streams: stdout is for results."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
