"""ResNet-38d: wide, pre-activation, output stride 8 (paper/method.md, Net; after Wu, Shen and van den Hengel, 2016)."""

import torch
from torch import nn
from torch.nn import functional as F

from data.normalisation import IMAGENET
from network.taps import Levels, Taps
from tool.cli import UserError

CHANNEL_MULTIPLE = 8


def convolution(inputs: int, outputs: int, size: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias whose padding keeps the grid, but for the stride."""
    return nn.Conv2d(
        inputs, outputs, size, stride=stride, padding=dilation * (size // 2), dilation=dilation, bias=False
    )


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, `inputs -> middle -> outputs` channels; the first strides and has its own dilation."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, *, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = convolution(inputs, middle, 3, stride=stride, dilation=first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = convolution(middle, outputs, 3, dilation=dilation)
        self.changes_shape = inputs != outputs or stride != 1
        if self.changes_shape:
            self.conv_branch1 = convolution(inputs, outputs, 1, stride=stride)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's output and its activated input, which the taps are made of."""
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        shortcut = self.conv_branch1(activated) if self.changes_shape else x
        y = self.conv_branch2a(activated)
        y = F.relu(self.bn_branch2b1(y), inplace=True)
        return shortcut + self.conv_branch2b1(y), activated


class Bottleneck(nn.Module):
    """1 x 1 to a quarter, dilated 3 x 3 to a half, 1 x 1 to all of `outputs` channels, with channel dropout between."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = convolution(inputs, outputs // 4, 1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = convolution(outputs // 4, outputs // 2, 3, dilation=dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = convolution(outputs // 2, outputs, 1)
        self.conv_branch1 = convolution(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The block's output and its activated input."""
        activated = F.relu(self.bn_branch2a(x), inplace=True)
        y = self.conv_branch2a(activated)
        y = self.conv_branch2b1(self.dropout_2b1(F.relu(self.bn_branch2b1(y), inplace=True)))
        y = self.conv_branch2b2(self.dropout_2b2(F.relu(self.bn_branch2b2(y), inplace=True)))
        return self.conv_branch1(activated) + y, activated


def scaled(channels: int, width: float) -> int:
    """`channels` times `width`, rounded to a multiple of 8 and at least 8."""
    return max(CHANNEL_MULTIPLE, round(channels * width / CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE)


class ResNet38d(nn.Module):
    """The backbone of the published HSC weights; its submodules carry the released names.

    `width` multiplies every channel count (rounded to multiples of 8; 1 gives the released shapes). Convolutions start
    from He et al.'s normal values in `fan_out` mode, as torchvision's ResNets do, so that it trains from scratch.

    Raises `UserError` for a width that is not above 0 and at most 8.
    """

    normalisation = IMAGENET

    def __init__(self, *, width: float = 1.0) -> None:
        super().__init__()
        if not 0 < width <= 8:
            raise UserError(f"--width {width}: expected a channel multiplier above 0 and at most 8 (1 is the paper's)")
        c64, c128, c256, c512, c1024, c2048, c4096 = (scaled(64 * 2**k, width) for k in range(7))
        self.channels, self.low_channels, self.first_channels = Taps(c512, c1024, c4096), c256, c128
        self.conv1a = convolution(3, c64, 3)
        self.b2 = ResidualBlock(c64, c128, c128, stride=2)
        self.b2_1 = ResidualBlock(c128, c128, c128)
        self.b2_2 = ResidualBlock(c128, c128, c128)
        self.b3 = ResidualBlock(c128, c256, c256, stride=2)
        self.b3_1 = ResidualBlock(c256, c256, c256)
        self.b3_2 = ResidualBlock(c256, c256, c256)
        self.b4 = ResidualBlock(c256, c512, c512, stride=2)
        self.b4_1 = ResidualBlock(c512, c512, c512)
        self.b4_2 = ResidualBlock(c512, c512, c512)
        self.b4_3 = ResidualBlock(c512, c512, c512)
        self.b4_4 = ResidualBlock(c512, c512, c512)
        self.b4_5 = ResidualBlock(c512, c512, c512)
        self.b5 = ResidualBlock(c512, c512, c1024, first_dilation=1, dilation=2)
        self.b5_1 = ResidualBlock(c1024, c512, c1024, first_dilation=2, dilation=2)
        self.b5_2 = ResidualBlock(c1024, c512, c1024, first_dilation=2, dilation=2)
        self.b6 = Bottleneck(c1024, c2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(c2048, c4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(c4096)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @property
    def stem(self) -> tuple[nn.Module, ...]:
        """What stays as it was when the backbone is frozen."""
        return (self.conv1a, self.b2, self.b2_1, self.b2_2)

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), normalised, to conv4 (the activated input of b5, 512 channels), conv5 (that
        of b6, 1024) and conv6 (relu of bn7, 4096), all not negative."""
        return self._from_stride_4(self._to_stride_4(self._to_stride_2(image)))

    def levels(self, image: torch.Tensor) -> Levels:
        """All five maps of `image`; c1 and c2, of either sign, are what b2_2 (stride 2) and b3_2 give."""
        c1 = self._to_stride_2(image)
        c2 = self._to_stride_4(c1)
        return Levels(c1, c2, *self._from_stride_4(c2))

    def _to_stride_2(self, image: torch.Tensor) -> torch.Tensor:
        x = self.conv1a(image)
        for block in (self.b2, self.b2_1, self.b2_2):
            x, _ = block(x)
        return x

    def _to_stride_4(self, x: torch.Tensor) -> torch.Tensor:
        for block in (self.b3, self.b3_1, self.b3_2):
            x, _ = block(x)
        return x

    def _from_stride_4(self, x: torch.Tensor) -> Taps:
        for block in (self.b4, self.b4_1, self.b4_2, self.b4_3, self.b4_4, self.b4_5):
            x, _ = block(x)
        x, conv4 = self.b5(x)
        for block in (self.b5_1, self.b5_2):
            x, _ = block(x)
        x, conv5 = self.b6(x)
        x, _ = self.b7(x)
        return Taps(conv4, conv5, F.relu(self.bn7(x), inplace=True))
