"""The backbones of the segmentation nets by name: image (N, 3, H, W) to one map of `channels` channels."""

import torch
from torch import nn

from network import backbones
from segmentation.net.resnet import RESNETS, ResNet
from tool.cli import UserError

BACKBONES = (*RESNETS, "mobilenet_v2")


class MobileNetV2(nn.Module):
    """Stage 1's MobileNetV2, of output stride 8, under torchvision's names."""

    channels = backbones.MobileNetV2.channels.conv6

    def __init__(self) -> None:
        super().__init__()
        self.features = backbones.MobileNetV2().features

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`image` (N, 3, H, W), ImageNet-normalised, to the last map (N, 1280, ceil(H / 8), ceil(W / 8)), 0 to 6."""
        return self.features(image)


def build_backbone(name: str, *, dilated: bool, multigrid: bool, deep_base: bool) -> nn.Module:
    """The backbone `name` with random weights; see `ResNet` for the options.

    mobilenet_v2 has stride 8 and one stem: `deep_base`, which is on by default, is ignored there.

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
    if name in RESNETS:
        return ResNet(name, dilated=dilated, multigrid=multigrid, deep_base=deep_base)
    if multigrid:
        raise UserError(f"MODEL_BACKBONE_MULTIGRID True: MODEL_BACKBONE {name} has no layer4: set it to False")
    if not dilated:
        raise UserError(f"MODEL_BACKBONE_DILATED False: MODEL_BACKBONE {name} comes dilated only: set it to True")
    return MobileNetV2()
