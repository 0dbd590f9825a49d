"""DeepLab v2 as deeplab-pytorch has it (paper/method.md, Stage 3): a Caffe-style ResNet, four branches summed, and the
maximum over three scales of the image."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network.deeplab import ASPP_DILATIONS, DeepLab
from network.taps import Taps

# Of layer2 to layer5: bottlenecks, strides, and dilations of every 3x3 convolution.
RESNET101_BLOCKS = (3, 4, 23, 3)
STRIDES, DILATIONS = (1, 2, 1, 1), (1, 1, 2, 4)
EXPANSION = 4
# Of red, green and blue, in 0..255: what the input lacks; it keeps that range, and has blue first.
MEAN = (122.675, 116.669, 104.008)
CAFFE = Normalisation(tuple(value / 255 for value in MEAN), (1 / 255,) * 3, bgr=True)
SCALES = (0.5, 0.75)  # of the image, beside itself
HEAD_STD = 0.01


class CaffeResNet(nn.Module):
    """A ResNet of bottlenecks as Caffe's models have it, of output stride 8, under deeplab-pytorch's names.

    It differs from torchvision's: the first convolution of a bottleneck has the stride, max-pooling rounds sizes up,
    and the input is blue, green, red of 0..255 less a mean.

    blocks: bottlenecks in layer2 to layer5. width: channels of the stem; 64 is the released one.
    """

    normalisation = CAFFE

    def __init__(self, blocks: Sequence[int] = RESNET101_BLOCKS, *, width: int = 64) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(
            OrderedDict(
                conv1=_convolution(3, width, 7, stride=2, padding=3),
                pool=nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            )
        )
        channels = width
        for number, (count, stride, dilation) in enumerate(zip(blocks, STRIDES, DILATIONS, strict=True)):
            layer = OrderedDict()
            for block in range(count):
                middle = width * 2**number
                layer[f"block{block + 1}"] = CaffeBottleneck(
                    channels, middle, stride=1 if block else stride, dilation=dilation, has_shortcut=block == 0
                )
                channels = EXPANSION * middle
            self.add_module(f"layer{number + 2}", nn.Sequential(layer))
        self.channels = Taps(channels // 4, channels // 2, channels)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: torch.Tensor) -> Taps:
        """`image` (N, 3, H, W), as `normalisation` makes it, to its three taps at stride 8, not negative."""
        conv4 = self.layer3(self.layer2(self.layer1(image)))
        conv5 = self.layer4(conv4)
        return Taps(conv4, conv5, self.layer5(conv5))


class CaffeBottleneck(nn.Module):
    """1x1 to fewer channels, with the stride; 3x3, dilated; 1x1 to more; and the input, by a 1x1 where it is another
    size."""

    def __init__(self, in_channels: int, middle: int, *, stride: int, dilation: int, has_shortcut: bool) -> None:
        super().__init__()
        out_channels = EXPANSION * middle
        self.reduce = _convolution(in_channels, middle, 1, stride=stride)
        self.conv3x3 = _convolution(middle, middle, 3, padding=dilation, dilation=dilation)
        self.increase = _convolution(middle, out_channels, 1, relu=False)
        if has_shortcut:
            self.shortcut = _convolution(in_channels, out_channels, 1, stride=stride, relu=False)
        else:
            self.shortcut = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.increase(self.conv3x3(self.reduce(x))) + self.shortcut(x))


class SummedASPP(nn.Module):
    """Four dilated 3x3 convolutions from a map to the labels' scores, summed."""

    def __init__(self, in_channels: int, num_labels: int) -> None:
        super().__init__()
        for number, dilation in enumerate(ASPP_DILATIONS):
            branch = nn.Conv2d(in_channels, num_labels, 3, padding=dilation, dilation=dilation)
            nn.init.normal_(branch.weight, std=HEAD_STD)
            nn.init.zeros_(branch.bias)
            self.add_module(f"c{number}", branch)

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, h, w) to (N, num_labels, h, w)."""
        return self.c0(feat) + self.c1(feat) + self.c2(feat) + self.c3(feat)


class DeepLabMSC(DeepLab):
    """A backbone and `SummedASPP`, on the image and on it at half and three quarters of its size; the maximum counts.

    Logits stay on the backbone's grid. All weights are in `base`, the backbone with the head among its layers, so that
    a state dict has the released names.
    """

    BODY = "base"
    aligned = False

    def __init__(self, backbone: nn.Module, *, num_classes: int, frozen_norms: bool) -> None:
        super().__init__(backbone, frozen_norms=frozen_norms)
        backbone.aspp = SummedASPP(backbone.channels.conv6, num_classes)
        self.finish()

    @property
    def backbone(self) -> nn.Module:
        return self.base

    @property
    def weights(self) -> nn.Module:
        return self.base

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        return (self.base.aspp,)

    def head(self, feat: torch.Tensor) -> torch.Tensor:
        return self.base.aspp(feat)

    def draw_head(self) -> None:
        """As it was made."""

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """Of one scale, float32, on the backbone's grid."""
        return self.head(self.base(image).conv6).float()

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """`image` (N, 3, H, W), normalised, to float32 logits (N, num_classes, h, w).

        In evaluation mode the maximum over the scales on the grid of the image itself; in training mode a tuple of the
        logits of the image, of its smaller scales, each on its own grid, and of the maximum.
        """
        first = self.scores(image)
        others = [self.scores(_resized_by(image, scale)) for scale in SCALES]
        grid = first.shape[2:]
        best = first
        for logits in others:
            best = torch.maximum(best, F.interpolate(logits, size=grid, mode="bilinear", align_corners=False))
        return (first, *others, best) if self.training else best


def _resized_by(image: torch.Tensor, scale: float) -> torch.Tensor:
    """Sizes are rounded down; places are found by `scale` itself, not by the sizes' ratio. A side of one pixel
    counts as two alike, of which one is left."""
    image = image.expand(-1, -1, *(max(side, 2) for side in image.shape[2:]))
    options = {"mode": "bilinear", "align_corners": False, "recompute_scale_factor": False}
    return F.interpolate(image, scale_factor=scale, **options)


def _convolution(
    in_channels: int, out_channels: int, kernel: int, *, relu: bool = True, **geometry: int
) -> nn.Sequential:
    """A convolution without bias, its norm and, with `relu`, that."""
    layers = OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel, bias=False, **geometry), bn=nn.BatchNorm2d(out_channels)
    )
    if relu:
        layers["relu"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)
