"""torchvision's ResNets as backbones: stride turned into dilation, and the stem of three 3x3 convolutions."""

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import nn

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
STEM_CHANNELS = 128  # that three convolutions end in; a 7x7 one ends in 64
MULTIGRID = (4, 8, 16)  # dilation of layer4's blocks


class ResNet(nn.Module):
    """torchvision's ResNet `name` without its classifier, under torchvision's names, with random weights.

    dilated: output stride 8: layer3 and layer4 keep stride 1, their 3x3 convolutions have dilation 2 and 4, the one of
        each that had the stride half of that. Otherwise the output stride is 32.
    multigrid: layer4's blocks have dilation 4, 8 and 16 instead. Only where `dilated`.
    deep_base: the stem is three 3x3 convolutions (64 stride 2, 64, 128) instead of a 7x7 one to 64.
    """

    def __init__(self, name: str, *, dilated: bool, multigrid: bool, deep_base: bool) -> None:
        from torchvision import models  # not at the top: it takes as long as torch, in each process

        super().__init__()
        net = models.get_model(name, weights=None)
        if deep_base:
            _deepen_stem(net)
        if dilated:
            _dilate(net.layer3, repeat(2), strided=1)
            _dilate(net.layer4, MULTIGRID if multigrid else repeat(4), strided=MULTIGRID[0] if multigrid else 2)
        self.channels: int = net.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`image` (N, 3, H, W), ImageNet-normalised, to layer4's map (N, `channels`, ceil(H / 8), ceil(W / 8)), not
        negative; /32 where not dilated."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _dilate(layer: nn.Sequential, dilations: Iterable[int], *, strided: int) -> None:
    """Give the 3x3 convolutions of each block of `layer` its dilation, `strided` to the one that had a stride.

    torchvision can build this for bottlenecks only. The strided one keeps the dilation of those before it, half of
    those after it, so that pretrained weights see what they saw: every second pixel is what the strided layer gives.
    """
    for block, dilation in zip(layer, dilations, strict=False):  # there are as many dilations as it takes, or more
        for conv in block.modules():
            if not isinstance(conv, nn.Conv2d):
                continue
            if conv.kernel_size == (3, 3):
                rate = dilation if conv.stride == (1, 1) else strided
                conv.dilation = conv.padding = (rate, rate)
            conv.stride = (1, 1)


def _deepen_stem(net: nn.Module) -> None:
    """Replace the 7x7 convolution by three, and what reads its channels."""
    net.conv1 = nn.Sequential(
        _convolution(3, 64, 3, stride=2),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        _convolution(64, 64, 3),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        _convolution(64, STEM_CHANNELS, 3),
    )
    net.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
    block = net.layer1[0]
    block.conv1 = _convolution(STEM_CHANNELS, block.conv1.out_channels, block.conv1.kernel_size[0])
    if block.downsample is None:  # 64 channels in and out until now, in nets of basic blocks
        channels = block.conv2.out_channels
        block.downsample = nn.Sequential(_convolution(STEM_CHANNELS, channels, 1), nn.BatchNorm2d(channels))
    else:
        block.downsample[0] = _convolution(STEM_CHANNELS, block.downsample[0].out_channels, 1)


def _convolution(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    """Without bias, size kept but for the stride, normal weights of variance 2 / (kernel area x out_channels)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
