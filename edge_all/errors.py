"""Every error that edge_all raises on purpose: one line that says what was given, what was wanted and what to do.

EdgeAllError                exit 1
├── ImageError              a file that is not an image, is damaged, or is outside the stated limits
├── BundleError             a bundle that is missing, damaged, incomplete or of a newer protocol
├── SigningKeyError         a file that is no key for signatures, or a password that does not open it
├── TargetError             an engine, device or precision that is not there
├── ToolchainError          the export toolchain or a part of it is not installed
├── DataError               a data set that cannot be trained on
├── WeightsError            pretrained weights that cannot be had or do not fit
├── HeadError               a selector or classifier that cannot be fitted as asked
├── StudyError              a study that cannot go on, or is not what was asked for
├── ServeError              a server that cannot start, or may not start as asked
├── CameraError             a camera that cannot be opened, or that gives no images
├── ServiceError            a service of the system that cannot be installed or removed
├── JournalError            a journal of answers that cannot be used, or an entry that is not there
└── GateError               exit 3: an exported bundle that failed its own check
"""

from __future__ import annotations


class EdgeAllError(Exception):
    """Base of all of them. ``exit_code`` is what the command line exits with."""

    exit_code = 1


class ImageError(EdgeAllError):
    """A file that cannot be classified as an image."""


class BundleError(EdgeAllError):
    """A bundle that must not be used."""


class SigningKeyError(EdgeAllError):
    """A key file that cannot be used to sign a bundle or to check a signature."""


class TargetError(EdgeAllError):
    """A target, device or precision that is not available here."""


class ToolchainError(EdgeAllError):
    """The export toolchain, or an optional part of it, is not installed."""


class DataError(EdgeAllError):
    """A data set that cannot be trained on."""


class WeightsError(EdgeAllError):
    """Pretrained weights that cannot be had, or do not fit the backbone."""


class HeadError(EdgeAllError):
    """A selector or a classifier that cannot be fitted as asked."""


class StudyError(EdgeAllError):
    """A study's folder that cannot be continued, or that holds no such result."""


class ServeError(EdgeAllError):
    """A server that cannot be started, or would be open to strangers."""


class CameraError(EdgeAllError):
    """A camera that is not there, cannot be used as it is configured, or has stopped giving images."""


class ServiceError(EdgeAllError):
    """A service that the system cannot be given, or that cannot do there what it is asked to."""


class JournalError(EdgeAllError):
    """A journal that cannot be opened, read or written, or a request that it cannot meet."""


class GateError(EdgeAllError):
    """An exported bundle that failed its own check."""

    exit_code = 3


def in_one_line(error: Exception) -> str:
    """What an error of another package says, without line breaks; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def install_hint(extra: str) -> str:
    """How to install edge_all with one of its extras, for an error that says that something is not installed."""
    from edge_all import __version__

    wheel = f"edge_all-{__version__}-py3-none-any.whl"
    return f'pip install ".[{extra}]" in a checkout of edge_all, or pip install "{wheel}[{extra}]"'
