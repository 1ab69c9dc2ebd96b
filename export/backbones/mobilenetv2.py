"""MobileNetV2: inverted residuals with linear bottlenecks.

Sandler et al. 2018, arXiv 1801.04381. Reference: torchvision.models.mobilenet_v2.
"""

from __future__ import annotations

from typing import Any

from . import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap, torchvision_weights


def build() -> Any:
    from torchvision.models import mobilenet_v2

    return mobilenet_v2(weights=None)


def stages(model: Any) -> list[tuple[str, Any]]:
    return [(f"features.{i}", module) for i, module in enumerate(model.features)]


BACKBONE = Backbone(
    name="mobilenetv2",
    input_size=(224, 224),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    taps=(
        Tap("features.1", 16, 20_873_216),
        Tap("features.2", 24, 50_075_648),
        Tap("features.3", 24, 75_815_936),
        Tap("features.4", 32, 91_282_688),
        Tap("features.5", 32, 102_271_232),
        Tap("features.6", 32, 113_259_776),
        Tap("features.7", 64, 120_823_808),
        Tap("features.8", 64, 131_134_976),
        Tap("features.9", 64, 141_446_144),
        Tap("features.10", 64, 151_757_312),
        Tap("features.11", 96, 164_476_928),
        Tap("features.12", 96, 187_169_024),
        Tap("features.13", 96, 209_861_120),
        Tap("features.14", 160, 225_468_992),
        Tap("features.15", 160, 240_945_152),
        Tap("features.16", 160, 256_421_312),
        Tap("features.17", 320, 279_423_872),
        Tap("features.18", 1280, 299_494_272),
    ),
    early="features.4",
    build=build,
    stages=stages,
    pretrained=lambda: torchvision_weights("MobileNet_V2_Weights"),
    head=("classifier.",),
)
