"""The backbones by name, for stages 1 and 3, and what freezing a backbone means.

A backbone maps an image (N, 3, H, W) to `Taps`, knows its `channels`, its `stem` and its
`normalisation`; its `levels` are all five of its maps. All but resnet38d know their
`stages`, and can have output stride 16. torchvision's nets keep its names
for their submodules, so that its checkpoints fit. They import it, not this file: that takes as long as torch, in each
process.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn

from data.normalisation import IMAGENET
from network import BACKBONES, RESNETS, TIMM, is_backbone
from network.depthwise import DilatedDepthwise
from network.norm import FixedNorm
from network.resnet import STRIDE_8, STRIDE_16, ResNet
from network.resnet38d import ResNet38d
from network.taps import Levels, Stages, Taps
from network.timm_backbone import TimmBackbone
from tool.cli import UserError


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 with the strides after `output_stride`, 8 or 16, turned into dilation.

    The taps are the last outputs of the original strides 8 and 16 (linear bottlenecks, of either sign, 32 and 96
    channels) and of the whole (1280 channels, 0 to 6).
    """

    channels, low_channels, first_channels = Taps(32, 96, 1280), 24, 16
    normalisation = IMAGENET

    def __init__(self, *, output_stride: int = 8) -> None:
        from torchvision import models
        from torchvision.ops import Conv2dNormActivation

        super().__init__()
        self.features = models.mobilenet_v2(weights=None).features
        # A layer that strided keeps the dilation of those before it; those after it see a grid twice as fine.
        dilation = 1
        for layer in self.features[{8: 7, 16: 14}[output_stride] :].modules():
            if isinstance(layer, Conv2dNormActivation) and layer[0].kernel_size == (3, 3):
                strided = layer[0]
                layer[0] = DilatedDepthwise(strided.out_channels, 3, dilation=dilation)
                layer[0].weight = strided.weight
                dilation *= strided.stride[0]
        # On a CPU its depthwise convolutions are up to twice as fast so.
        self.to(memory_format=torch.channels_last)

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """The layers up to stride 2."""
        return (self.features[0], self.features[1])

    @property
    def stages(self) -> Stages:
        return (self.features[:7],), (self.features[7:14],), (self.features[14:],)

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), normalised, to its three taps."""
        conv4 = self.features[:7](image)
        conv5 = self.features[7:14](conv4)
        return Taps(conv4, conv5, self.features[14:](conv5))

    def levels(self, image: torch.Tensor) -> Levels:
        """All five maps of `image`; c1 and c2 are those before strides 4 and 8, of 16 and 24 channels, of either
        sign."""
        c1 = self.features[:2](image)
        c2 = self.features[2:4](c1)
        c3 = self.features[4:7](c2)
        c4 = self.features[7:14](c3)
        return Levels(c1, c2, c3, c4, self.features[14:](c4))


def _resnet(name: str, *, output_stride: int) -> ResNet:
    return ResNet(name, **{8: STRIDE_8, 16: STRIDE_16}[output_stride])


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    **{name: partial(_resnet, name) for name in RESNETS},
    "resnet38d": ResNet38d,
    "mobilenet_v2": MobileNetV2,
}
SCALABLE = ("resnet38d",)


def build_backbone(name: str, *, width: float = 1.0, output_stride: int = 8, flag: str = "--backbone") -> nn.Module:
    """The backbone `name` with random weights, of output stride 8 or 16; `width` multiplies the channels of resnet38d.

    `name` is one of `network.BACKBONES`, or `timm:` and a name of timm's (`TimmBackbone`). At output stride 16 a
    ResNet's layer4 is not dilated, the last layers of other nets are. `flag` names the argument where timm has no such
    net.

    Raises `UserError` for an unknown name, a width that makes no net, a width other than 1 elsewhere, and resnet38d of
    another output stride than 8.
    """
    if not is_backbone(name):
        raise UserError(f"--backbone {name}: expected one of {', '.join(BACKBONES)}, or {TIMM}NAME")
    if name in SCALABLE and output_stride != 8:
        others = ", ".join(other for other in BACKBONES if other not in SCALABLE)
        raise UserError(
            f"--backbone {name}: expected a net that has output stride {output_stride}, {others} or {TIMM}NAME; this"
            " one has 8"
        )
    if name in SCALABLE:
        return BUILDERS[name](width=width)
    if width != 1:
        raise UserError(
            f"--width {width}: --backbone {name} has one width only: leave --width at 1, or use {', '.join(SCALABLE)}"
        )
    if name.startswith(TIMM):
        return TimmBackbone(name.removeprefix(TIMM), output_stride=output_stride, flag=flag)
    return BUILDERS[name](output_stride=output_stride)


def batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    """Every batch norm in `module`."""
    return (part for part in module.modules() if isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm))


def fix_norms(module: nn.Module) -> None:
    """Give the batch norms in `module` no gradient and keep their statistics, until `module.train()` is called."""
    for norm in batch_norms(module):
        norm.eval().requires_grad_(False)
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = FixedNorm


def freeze_stem(backbone: nn.Module) -> None:
    """Give the stem of `backbone` no gradient."""
    for part in backbone.stem:
        part.requires_grad_(False)


def drop_nothing(net: nn.Module) -> None:
    """Switch off every dropout in `net`: one that starts from random weights has nothing to forget yet."""
    for part in net.modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
