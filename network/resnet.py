"""torchvision's ResNets as backbones of any stride and dilation, with either stem."""

from collections.abc import Sequence
from itertools import chain, repeat

import torch
from torch import nn

from data.normalisation import IMAGENET
from network.taps import Levels, Stages, Taps

STEM_CHANNELS = 128  # that three convolutions end in; a 7x7 one ends in 64
# Strides of layer2 to layer4 and dilations of their 3x3 convolutions: torchvision's, of output stride 32, those of
# output stride 16, where layer4 sees half as much around a pixel as it was trained to, and those of output stride 8.
# There the convolution that had a stride keeps the dilation of those before it, half of those after it, so that
# pretrained weights see what they saw: every second pixel is what the strided layer gives.
STRIDE_32 = {"strides": (2, 2, 2), "dilations": ((1,), (1,), (1,))}
STRIDE_16 = {"strides": (2, 2, 1), "dilations": ((1,), (1,), (1,))}
STRIDE_8 = {"strides": (2, 1, 1), "dilations": ((1,), (1, 2), (2, 4))}
# The same, but that layer4's first convolution is not dilated at all, as DHR has it.
SHARP_STRIDE_8 = {"strides": (2, 1, 1), "dilations": ((1,), (1, 2), (1, 4))}
# The same without that half, as deeplab-pytorch dilates: a stage's dilation is that of all its 3x3 convolutions.
EVEN_STRIDE_8 = {"strides": (2, 1, 1), "dilations": ((1,), (2,), (4,))}
MULTIGRID = (4, 8, 16)  # of layer4's blocks


class ResNet(nn.Module):
    """torchvision's ResNet `name` without its classifier, under torchvision's names, with random weights.

    The taps are layer2 to layer4, all not negative: at output stride 8 on one grid, at 16 the last two, at 32 each on
    its own.

    strides: of layer2, layer3 and layer4.
    dilations: of the 3x3 convolutions of each of the three, in turn; the last one is that of all that follow.
    deep_stem: the stem is three 3x3 convolutions (64 stride 2, 64, 128) instead of a 7x7 one to 64.
    """

    normalisation = IMAGENET

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, int, int] = STRIDE_8["strides"],
        dilations: tuple[Sequence[int], Sequence[int], Sequence[int]] = STRIDE_8["dilations"],
        deep_stem: bool = False,
    ) -> None:
        from torchvision import models  # not at the top: it takes as long as torch, in each process

        super().__init__()
        net = models.get_model(name, weights=None)
        if deep_stem:
            _deepen_stem(net)
        for layer, stride, rates in zip((net.layer2, net.layer3, net.layer4), strides, dilations, strict=True):
            _set_stride(layer, stride)
            _set_dilations(layer, rates)
        last: int = net.fc.in_features
        self.channels, self.low_channels = Taps(last // 4, last // 2, last), last // 8
        self.first_channels = STEM_CHANNELS if deep_stem else net.conv1.out_channels
        self.conv1, self.bn1, self.relu, self.maxpool = net.conv1, net.bn1, net.relu, net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """The layers up to stride 4."""
        return (self.conv1, self.bn1, self.layer1)

    @property
    def stages(self) -> Stages:
        return (
            (self.conv1, self.bn1, self.relu, self.maxpool, self.layer1, self.layer2),
            (self.layer3,),
            (self.layer4,),
        )

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), normalised, to its three taps."""
        return self.from_stride_4(self.layer1(self._pooled(image)))

    def levels(self, image: torch.Tensor) -> Levels:
        """All five maps of `image`, not negative; c1 is the pooled one, of stride 4 as c2, which layer1 gives."""
        c1 = self._pooled(image)
        c2 = self.layer1(c1)
        return Levels(c1, c2, *self.from_stride_4(c2))

    def _pooled(self, image: torch.Tensor) -> torch.Tensor:
        return self.maxpool(self.relu(self.bn1(self.conv1(image))))

    def from_stride_4(self, x: torch.Tensor) -> Taps:
        """The three taps from what layer1 gives."""
        conv4 = self.layer2(x)
        conv5 = self.layer3(conv4)
        return Taps(conv4, conv5, self.layer4(conv5))


def multigrid(name: str) -> tuple[int, ...]:
    """Dilations of layer4's 3x3 convolutions that grow from block to block, of the ResNet `name`."""
    convolutions_a_block = 2 if name in ("resnet18", "resnet34") else 1
    return tuple(rate for rate in MULTIGRID for _ in range(convolutions_a_block))


def _set_stride(layer: nn.Sequential, stride: int) -> None:
    """Of the convolutions that have one, beside each other in the first block."""
    for conv in layer[0].modules():
        if isinstance(conv, nn.Conv2d) and conv.stride != (1, 1):
            conv.stride = (stride, stride)


def _set_dilations(layer: nn.Sequential, dilations: Sequence[int]) -> None:
    """torchvision can do this for bottlenecks only, and not from block to block."""
    convolutions = [conv for conv in layer.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3)]
    for conv, rate in zip(convolutions, chain(dilations, repeat(dilations[-1])), strict=False):  # rates never end
        conv.dilation = conv.padding = (rate, rate)


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
