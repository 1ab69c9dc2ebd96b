"""VGG19: sixteen plain 3x3 convolutions.

Simonyan and Zisserman 2015, arXiv 1409.1556. Reference: torchvision.models.vgg19.
"""

from __future__ import annotations

from typing import Any

from . import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap, torchvision_weights


def build() -> Any:
    from torchvision.models import vgg19

    model = vgg19(weights=None, init_weights=False)
    del model.classifier  # it has 124 of the 144 million weights, and is not needed
    return model


def stages(model: Any) -> list[tuple[str, Any]]:
    return [(f"features.{i}", module) for i, module in enumerate(model.features)]


BACKBONE = Backbone(
    name="vgg19",
    input_size=(224, 224),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    taps=(
        Tap("features.3", 64, 1_936_392_192),
        Tap("features.4", 64, 1_936_392_192),
        Tap("features.8", 128, 4_710_924_288),
        Tap("features.9", 128, 4_710_924_288),
        Tap("features.17", 256, 11_184_832_512),
        Tap("features.18", 256, 11_184_832_512),
        Tap("features.26", 512, 17_658_740_736),
        Tap("features.27", 512, 17_658_740_736),
        Tap("features.35", 512, 19_508_428_800),
        Tap("features.36", 512, 19_508_428_800),
    ),
    early="features.9",
    build=build,
    stages=stages,
    pretrained=lambda: torchvision_weights("VGG19_Weights"),
    head=("classifier.",),
)
