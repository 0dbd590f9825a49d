"""The backbones of the segmentation nets by name: image (N, 3, H, W) to one map of `channels` channels."""

import torch
from torch import nn

from network import backbones
from segmentation.net.resnet import RESNETS, ResNet
from tool.cli import UserError

STAGE_1 = ("resnet38d", "mobilenet_v2")  # that a stage-1 classifier may have too
BACKBONES = (*RESNETS, *STAGE_1)


class MobileNetV2(nn.Module):
    """Stage 1's MobileNetV2, of output stride 8, under torchvision's names."""

    channels = backbones.MobileNetV2.channels.conv6

    def __init__(self) -> None:
        super().__init__()
        self.features = backbones.MobileNetV2().features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`image` (N, 3, H, W), ImageNet-normalised, to the last map (N, 1280, ceil(H / 8), ceil(W / 8)), 0 to 6."""
        return self.features(image)


class ResNet38d(backbones.ResNet38d):
    """Stage 1's ResNet-38d, of output stride 8, under the released names."""

    def __init__(self, *, width: float) -> None:
        super().__init__(width=width)
        self.channels = self.channels.conv6

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`image` (N, 3, H, W), ImageNet-normalised, to the last map (N, 4096 x width, ceil(H / 8), ceil(W / 8)), not
        negative."""
        return super().forward(image).conv6


def build_backbone(name: str, *, dilated: bool, multigrid: bool, deep_base: bool, width: float = 1.0) -> nn.Module:
    """The backbone `name` with random weights; see `ResNet` for the options, `width` multiplies resnet38d's channels.

    resnet38d and mobilenet_v2 have stride 8 and one stem: `deep_base`, which is on by default, is ignored there.

    Raises:
        UserError: an unknown name, or options that the backbone does not have.
    """
    if name not in BACKBONES:
        raise UserError(f"MODEL_BACKBONE {name!r}: expected one of {', '.join(BACKBONES)}")
    if multigrid and not dilated:
        raise UserError(
            "MODEL_BACKBONE_MULTIGRID True: changes dilations, and MODEL_BACKBONE_DILATED is False: set that to True,"
            " or this to False"
        )
    if width != 1 and name != "resnet38d":
        raise UserError(f"MODEL_BACKBONE_WIDTH {width}: MODEL_BACKBONE {name} has one width only: set it to 1")
    if name in RESNETS:
        return ResNet(name, dilated=dilated, multigrid=multigrid, deep_base=deep_base)
    if multigrid:
        raise UserError(f"MODEL_BACKBONE_MULTIGRID True: MODEL_BACKBONE {name} has no layer4: set it to False")
    if not dilated:
        raise UserError(f"MODEL_BACKBONE_DILATED False: MODEL_BACKBONE {name} comes dilated only: set it to True")
    return ResNet38d(width=width) if name == "resnet38d" else MobileNetV2()
