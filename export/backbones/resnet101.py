"""ResNet101: bottleneck residual blocks, 3 + 4 + 23 + 3 of them.

He et al. 2016, arXiv 1512.03385. Reference: torchvision.models.resnet101.
"""

from __future__ import annotations

from typing import Any

from . import IMAGENET_MEAN, IMAGENET_STD, Backbone, Tap, torchvision_weights


def build() -> Any:
    from torchvision.models import resnet101

    return resnet101(weights=None)


def stages(model: Any) -> list[tuple[str, Any]]:
    stem = [(name, getattr(model, name)) for name in ("conv1", "bn1", "relu", "maxpool")]
    layers = [f"layer{i}" for i in (1, 2, 3, 4)]
    return [*stem, *((f"{name}.{i}", block) for name in layers for i, block in enumerate(getattr(model, name)))]


BACKBONE = Backbone(
    name="resnet101",
    input_size=(224, 224),
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    taps=(
        Tap("layer1.2", 256, 785_956_864),
        Tap("layer2.3", 512, 1_813_561_344),
        Tap("layer3.2", 1024, 2_622_799_872),
        Tap("layer3.5", 1024, 3_277_897_728),
        Tap("layer3.8", 1024, 3_932_995_584),
        Tap("layer3.11", 1024, 4_588_093_440),
        Tap("layer3.14", 1024, 5_243_191_296),
        Tap("layer3.17", 1024, 5_898_289_152),
        Tap("layer3.20", 1024, 6_553_387_008),
        Tap("layer3.22", 1024, 6_990_118_912),
        Tap("layer4.0", 2048, 7_362_625_536),
        Tap("layer4.1", 2048, 7_580_991_488),
        Tap("layer4.2", 2048, 7_799_357_440),
    ),
    early="layer1.2",
    build=build,
    stages=stages,
    pretrained=lambda: torchvision_weights("ResNet101_Weights"),
    head=("fc.",),
)
