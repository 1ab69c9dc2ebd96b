"""DenseNet121: every layer reads the outputs of all layers before it in its block.

Huang et al. 2017, arXiv 1608.06993. Reference: torchvision.models.densenet121.
"""

from __future__ import annotations

import re
from typing import Any

from . import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap, torchvision_weights


def build() -> Any:
    from torchvision.models import densenet121

    return densenet121(weights=None)


def stages(model: Any) -> list[tuple[str, Any]]:
    """The children of ``features``, and the ReLU behind them, which is in torchvision's ``forward``."""
    from torch import nn

    return [*model.features.named_children(), ("relu5", nn.ReLU())]


def rename(key: str) -> str:
    """torchvision's published file has keys with ``norm.1`` where its module is called ``norm1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", key)


BACKBONE = Backbone(
    name="densenet121",
    input_size=(224, 224),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    taps=(
        Tap("denseblock1", 256, 1_158_463_488),
        Tap("transition1", 128, 1_261_223_936),
        Tap("denseblock2", 512, 1_974_124_544),
        Tap("transition2", 256, 2_076_884_992),
        Tap("denseblock3", 1024, 2_626_011_136),
        Tap("transition3", 512, 2_728_771_584),
        Tap("denseblock4", 1024, 2_833_137_664),
        Tap("relu5", 1024, 2_833_137_664),
    ),
    early="transition1",
    build=build,
    stages=stages,
    pretrained=lambda: torchvision_weights("DenseNet121_Weights"),
    head=("classifier.",),
    rename=rename,
)
