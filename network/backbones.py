"""The backbones by name, torchvision's nets as backbones of output stride 8, and what freezing a backbone means.

A backbone maps an image (N, 3, H, W) to `Taps`, knows its `channels` and its `stem`. Adapters name their submodules as
torchvision does, so that torchvision's checkpoints fit. It is imported by the nets that have its layers, not at the
top: that takes as long as torch, in each process.
"""

from collections.abc import Callable, Iterator

import torch
from torch import nn

from network import BACKBONES
from network.depthwise import DilatedDepthwise
from network.norm import FixedNorm
from network.resnet38d import ResNet38d, Taps
from tool.cli import UserError


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 with the strides after 8 turned into dilation.

    The taps are the last outputs of the original strides 8 and 16 (linear bottlenecks, of either sign, 32 and 96
    channels) and of the whole (1280 channels, 0 to 6).
    """

    channels = Taps(32, 96, 1280)

    def __init__(self) -> None:
        from torchvision import models
        from torchvision.ops import Conv2dNormActivation

        super().__init__()
        self.features = models.mobilenet_v2(weights=None).features
        # A layer that strided keeps the dilation of those before it; those after it see a grid twice as fine.
        dilation = 1
        for layer in self.features[7:].modules():
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

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), ImageNet-normalised, to its three taps."""
        conv4 = self.features[:7](image)
        conv5 = self.features[7:14](conv4)
        return Taps(conv4, conv5, self.features[14:](conv5))


class ResNet50(nn.Module):
    """torchvision's ResNet-50 with layer3 and layer4 dilated; the taps are layer2 to layer4 (512, 1024, 2048)."""

    channels = Taps(512, 1024, 2048)

    def __init__(self) -> None:
        from torchvision import models

        super().__init__()
        net = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """The layers up to stride 4."""
        return (self.conv1, self.bn1, self.layer1)

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), ImageNet-normalised, to its three taps, all not negative."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        conv4 = self.layer2(self.layer1(x))
        conv5 = self.layer3(conv4)
        return Taps(conv4, conv5, self.layer4(conv5))


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet38d": ResNet38d,
    "mobilenet_v2": MobileNetV2,
    "resnet50": ResNet50,
}
SCALABLE = ("resnet38d",)


def build_backbone(name: str, *, width: float = 1.0) -> nn.Module:
    """The backbone `name` with random weights; `width` multiplies the channels of resnet38d.

    Raises `UserError` for an unknown name, a width that makes no net, and a width other than 1 elsewhere.
    """
    if name not in BACKBONES:
        raise UserError(f"--backbone {name}: expected one of {', '.join(BACKBONES)}")
    if name in SCALABLE:
        return BUILDERS[name](width=width)
    if width != 1:
        raise UserError(
            f"--width {width}: --backbone {name} has one width only: leave --width at 1, or use {', '.join(SCALABLE)}"
        )
    return BUILDERS[name]()


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
