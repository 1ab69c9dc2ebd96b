"""Frozen CNNs: each has one file, whose name is the registered name.

A backbone is a sequence of named stages. The network up to a tap is the sequence up to the stage of that name, and the
stages behind it are not exported. The file says how to build the network, where its pretrained weights come from, how
its input is normalised, and at which stages features may be taken.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_all.errors import EdgeAllError

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Tap:
    """A stage whose output may be pooled into features.

    Attributes:
        name: The stage, by its path in the reference implementation.
        channels: How many channels its output has.
        macs: Multiply-accumulates for one image from the input up to here, at the backbone's own input size, as the
            reference implementation computes them; `edge_all.export.graph.reorder` saves some of DenseNet's.
    """

    name: str
    channels: int
    macs: int


@dataclass(frozen=True)
class Backbone:
    """A pretrained CNN.

    Attributes:
        name: Registered name.
        input_size: Height and width that it was trained at, in pixels.
        mean: What is subtracted from red, green and blue, as shares of full brightness.
        std: What they are divided by then, likewise.
        taps: In the order of the network; the last one is the paper's.
        early: The tap that is read beside a later one, for the limit of what is familiar: about an eighth of the
            resolution, or before, where its channels are few. Beside it there is one at `MIDDLE`, if it has one.
        build: Makes the whole network, untrained.
        stages: Gives its named stages in order, without the classifier.
        pretrained: Gives the publisher's weights, and where they come from, in words.
        head: Prefixes of the keys of weights that a feature extractor does not need.
        rename: Gives this network's key for a key of another publication of the weights.
    """

    name: str
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    taps: tuple[Tap, ...]
    early: str
    build: Callable[[], nn.Module]
    stages: Callable[[Any], list[tuple[str, nn.Module]]]
    pretrained: Callable[[], tuple[Mapping[str, Tensor], str]]
    head: tuple[str, ...]
    rename: Callable[[str], str] = str


def names() -> tuple[str, ...]:
    """Registered names; no backbone is imported."""
    return tuple(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Backbone:
    """The backbone of a registered name."""
    backbone: Backbone = import_module(f".{name}", __package__).BACKBONE
    return backbone


@dataclass(frozen=True)
class Place:
    """A tap, and the statistics that are taken from its feature map.

    Attributes:
        tap: The tap.
        std: Whether each channel's standard deviation over the map, a measure of texture, is taken beside its average.
    """

    tap: Tap
    std: bool = False

    @property
    def name(self) -> str:
        return f"{self.tap.name}{STD}" if self.std else self.tap.name

    @property
    def channels(self) -> int:
        """How many features it gives."""
        return self.tap.channels * (2 if self.std else 1)


STD = ":std"
"""Suffix of the name of a place where standard deviations are taken too."""


def places(backbone: Backbone, name: str) -> tuple[Place, ...]:
    """The places of a name such as ``features.7``, ``features.7:std`` or ``features.3:std+features.7``.

    Args:
        backbone: The network.
        name: Taps joined by ``+``, each with or without ``:std``; ``last`` is the paper's tap.

    Raises:
        EdgeAllError: There is no such tap, or one is named twice; the message lists the taps.
    """
    known = {tap.name: tap for tap in backbone.taps} | {"last": backbone.taps[-1]}
    chosen: list[Place] = []
    for part in name.split("+"):
        tap = known.get(part.removesuffix(STD))
        if tap is None or tap in [place.tap for place in chosen]:
            listed = ", ".join(tap.name for tap in backbone.taps)
            raise EdgeAllError(
                f"--tap {name}: {backbone.name} has no such tap; wanted auto, last, or one of {listed}, "
                f"with {STD} for standard deviations too, or several different ones joined by +"
            )
        chosen.append(Place(tap, part.endswith(STD)))
    return tuple(chosen)


EARLY = 0.5
"""Up to this part of a network's multiply-accumulates a tap is early."""

MIDDLE = 0.45
"""The last tap up to this part, of at most twice as many channels, stands beside the early one in a `Guard`."""


@dataclass(frozen=True)
class Guard:
    """Early places whose features are judged beside those that the head reads, in deciding what is familiar.

    Late features of another laboratory's picture look like those of the training images; early ones do not. Two depths
    tell more than one: what is small and what is large in a picture.

    Attributes:
        name: Of the places.
        places: Name of all places of the graph. The head's features come first.
        head: How many features the head reads.
        columns: Numbers of the early places' features.
    """

    name: str
    places: str
    head: int
    columns: range


def guard(backbone: Backbone, name: str) -> Guard | None:
    """The early places for a head that reads some places; None where these are early, with standard deviations.

    Args:
        backbone: The network.
        name: The head's places, as for `places`.
    """
    chosen = places(backbone, name)
    joined, width = "+".join(place.name for place in chosen), sum(place.channels for place in chosen)
    most = EARLY * backbone.taps[-1].macs
    early = [place.std and place.tap.macs <= most for place in chosen]
    if all(early):
        return None
    if any(early):
        first = early.index(True)
        start = sum(place.channels for place in chosen[:first])
        return Guard(chosen[first].name, joined, width, range(start, start + chosen[first].channels))
    taken = [place.tap.name for place in chosen]
    order = [tap.name for tap in backbone.taps]
    deepest = max(map(order.index, taken))
    last = min(order.index(backbone.early), deepest)
    free = [tap for tap in backbone.taps[: last + 1] if tap.name not in taken]
    if not free:
        return None
    own = [Place(tap, std=True) for tap in (free[-1], *_middle(backbone, free[-1], backbone.taps[:deepest]))]
    name, count = "+".join(place.name for place in own), sum(place.channels for place in own)
    return Guard(name, f"{joined}+{name}", width, range(width, width + count))


def _middle(backbone: Backbone, early: Tap, before: Sequence[Tap]) -> tuple[Tap, ...]:
    """The tap at `MIDDLE` among those before the head's, where it is behind the early one."""
    most = MIDDLE * backbone.taps[-1].macs
    fit = [tap for tap in before if early.macs < tap.macs <= most and tap.channels <= 2 * early.channels]
    return tuple(fit[-1:])


def torchvision_weights(enum: str) -> tuple[Mapping[str, Tensor], str]:
    """torchvision's DEFAULT weights of an enum such as ``VGG19_Weights``, downloaded or from torchvision's cache."""
    from torchvision import models

    weights = getattr(models, enum).DEFAULT
    return weights.get_state_dict(progress=False, check_hash=True, weights_only=True), f"torchvision {weights}"
