"""InceptionV3: parallel branches of factorised convolutions.

Szegedy et al. 2016, arXiv 1512.00567. Reference: torchvision.models.inception_v3.

torchvision's pretrained network takes input normalised by ImageNet's mean and std, and its first step
(``transform_input``) turns that into values from -1 to 1. Both steps together are a normalisation with mean 0.5 and
std 0.5, which is given here.
"""

from __future__ import annotations

from typing import Any

from . import Backbone, Tap, torchvision_weights

_MODULES = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e", "Mixed_7a",
    "Mixed_7b", "Mixed_7c",
)  # fmt: skip


def build() -> Any:
    from torchvision.models import inception_v3

    return inception_v3(weights=None, aux_logits=False, transform_input=False, init_weights=False)


def stages(model: Any) -> list[tuple[str, Any]]:
    return [(name, getattr(model, name)) for name in _MODULES]


BACKBONE = Backbone(
    name="inceptionv3",
    input_size=(299, 299),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    taps=(
        Tap("Conv2d_4a_3x3", 192, 1_340_779_616),
        Tap("maxpool2", 192, 1_340_779_616),
        Tap("Mixed_5b", 256, 1_653_125_216),
        Tap("Mixed_5c", 288, 1_991_813_216),
        Tap("Mixed_5d", 288, 2_339_909_216),
        Tap("Mixed_6a", 768, 2_741_846_624),
        Tap("Mixed_6b", 768, 3_115_909_728),
        Tap("Mixed_6c", 768, 3_603_612_256),
        Tap("Mixed_6d", 768, 4_091_314_784),
        Tap("Mixed_6e", 768, 4_709_229_152),
        Tap("Mixed_7a", 1280, 5_000_233_568),
        Tap("Mixed_7b", 2048, 5_322_670_688),
        Tap("Mixed_7c", 2048, 5_711_168_096),
    ),
    early="maxpool2",
    build=build,
    stages=stages,
    pretrained=lambda: torchvision_weights("Inception_V3_Weights"),
    head=("fc.", "AuxLogits."),
)
