"""From the names in a checkpoint to a network's own: which set of tensors is the network, and under which prefix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edge_all.errors import WeightsError

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What DataParallel, torch.compile and others put into the names of the modules that they wrap."""

_COUNTER = "n_averaged"
"""What torch.optim.swa_utils.AveragedModel adds to the network's tensors."""

_MOST_PARTS = 4
"""Parts, between dots, that a prefix may have, such as the two of ``model.backbone.``"""

_NOT_NEEDED = "num_batches_tracked"
"""Only training needs it, and a file may leave it out."""


@dataclass(frozen=True)
class Chosen:
    """A set of tensors of a checkpoint.

    Attributes:
        place: Where it lies in the file, and its prefix; "" for the file itself without one.
        tensors: By the network's own names; what has other names too.
    """

    place: str
    tensors: Mapping[str, Tensor]


def choose(
    states: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, tuple[int, ...]],
    rename: Callable[[str], str],
    origin: str,
) -> Chosen:
    """Choose the set that is the network, or else the one that is most like it.

    Args:
        states: Sets of tensors by their place in the file.
        shapes: Shape of each tensor that is needed, by the network's own names.
        rename: Gives the network's name for a name of another publication.
        origin: The file, for messages.

    Raises:
        WeightsError: Several sets are the network and differ, or two tensors have the same name.
    """
    needed = {name: shape for name, shape in shapes.items() if not name.endswith(_NOT_NEEDED)}
    scored = [
        (_score(chosen, needed), chosen)
        for place, tensors in states.items()
        for chosen in _by_prefix(place, tensors, rename, len(needed), origin)
    ]
    fitting = [chosen for score, chosen in scored if score[0] == len(needed)]
    if not fitting:
        return max(scored, key=lambda pair: pair[0])[1]
    for other in fitting[1:]:
        if not all(torch.equal(other.tensors[name], fitting[0].tensors[name]) for name in needed):
            raise WeightsError(
                f"{origin}: holds the network more than once, as {_in_words(fitting)}, with other values; save the one "
                "that you want alone"
            )
    return fitting[0]


def _score(chosen: Chosen, needed: Mapping[str, tuple[int, ...]]) -> tuple[int, int]:
    """How many of the tensors are there in the right shape, and how many in any."""
    there = [name for name in needed if name in chosen.tensors]
    return sum(tuple(chosen.tensors[name].shape) == needed[name] for name in there), len(there)


def _by_prefix(
    place: str, tensors: Mapping[str, Tensor], rename: Callable[[str], str], least: int, origin: str
) -> list[Chosen]:
    """The set as it is, and what is under each prefix that enough of its names have."""
    own = {name: value for name, value in tensors.items() if name != _COUNTER}
    plain = {_WRAPPERS.sub("", name): value for name, value in own.items()}
    _check_single(len(plain), own, origin)
    counts = Counter(
        "".join(f"{part}." for part in parts[:length])
        for parts in (name.split(".") for name in plain)
        for length in range(1, min(len(parts), _MOST_PARTS + 1))
    )
    found = []
    for prefix in ("", *(prefix for prefix, count in counts.items() if count >= least)):
        own = {name: value for name, value in plain.items() if name.startswith(prefix)}
        renamed = {rename(name.removeprefix(prefix)): value for name, value in own.items()}
        _check_single(len(renamed), own, origin)
        found.append(Chosen(".".join(filter(None, (place, prefix.rstrip(".")))), renamed))
    return found


def _check_single(distinct: int, tensors: Mapping[str, Tensor], origin: str) -> None:
    if distinct < len(tensors):
        raise WeightsError(f"{origin}: two of its tensors are the same one of the network; save one network alone")


def _in_words(chosen: Sequence[Chosen]) -> str:
    return " and ".join(each.place or "the file itself" for each in chosen)
