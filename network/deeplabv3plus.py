"""DeepLabv3+ as DHR has it (paper/method.md, DHR; after Chen et al., ECCV 2018): a dilated backbone, a decoder to
labels, and a 1x1 classifier whose scores are class activation maps."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network import RESNETS
from network.backbone_weights import load_body
from network.backbones import build_backbone, fix_norms
from network.names import under_own_names
from network.owners import OF_DHR, require_own
from network.resnet import SHARP_STRIDE_8, ResNet
from network.weights import LoadReport, read_weights
from network.whole import load_whole

ASPP_V3_DILATIONS = (12, 24, 36)
ASPP_CHANNELS = 256
LOW_CHANNELS = 48
CAM_SCALE = 0.5  # of the backbone's last map, which the classifier sees
HEAD_FACTOR = 10  # of the rate, for all but the backbone


class Outputs(NamedTuple):
    """Of images (N, 3, H, W), L labels and K classes: logits (N, L, h, w), a quarter of the image's size, and raw CAMs
    (N, K, ...), a sixteenth, both float32; the backbone's last two maps, an eighth, as it gives them, without
    gradient."""

    logits: Tensor
    cam: Tensor
    c4: Tensor
    c5: Tensor


class ASPPV3(nn.Module):
    """A 1x1 convolution, three dilated 3x3 ones and the map's mean through a 1x1 one, brought together by another."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.aspp1 = _block(in_channels, ASPP_CHANNELS, 1)
        for number, dilation in enumerate(ASPP_V3_DILATIONS, start=2):
            self.add_module(f"aspp{number}", _block(in_channels, ASPP_CHANNELS, 3, dilation=dilation))
        self.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), _block(in_channels, ASPP_CHANNELS, 1))
        self.block = _block(5 * ASPP_CHANNELS, ASPP_CHANNELS, 1, dropout=0.5)

    def forward(self, feat: Tensor) -> Tensor:
        """(N, in_channels, h, w) to (N, 256, h, w), not negative."""
        mean = self.gap(feat).expand(-1, -1, *feat.shape[2:])  # one pixel, resized
        branches = (self.aspp1, self.aspp2, self.aspp3, self.aspp4)
        return self.block(torch.cat([*(branch(feat) for branch in branches), mean], dim=1))


class Decoder(nn.Module):
    """ASPP of the last map, beside it a map of stride 4, and two convolutions over both."""

    def __init__(self, low_channels: int, in_channels: int, num_labels: int) -> None:
        super().__init__()
        self.aspp = ASPPV3(in_channels)
        self.low_block = _block(low_channels, LOW_CHANNELS, 1)
        self.mid_block = nn.Sequential(
            _block(ASPP_CHANNELS + LOW_CHANNELS, ASPP_CHANNELS, 3, dropout=0.5),
            _block(ASPP_CHANNELS, ASPP_CHANNELS, 3, dropout=0.1),
        )
        self.classifier = nn.Conv2d(ASPP_CHANNELS, num_labels, 1, bias=False)

    def forward(self, c2: Tensor, c5: Tensor) -> Tensor:
        """Logits (N, num_labels, h, w) on the grid of `c2`."""
        context = F.interpolate(self.aspp(c5), size=c2.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier(self.mid_block(torch.cat([context, self.low_block(c2)], dim=1)))


class DeepLabV3Plus(nn.Module):
    """Backbone, decoder and CAM head, under the released names.

    All trains, norms on the batch's statistics; `frozen`, as ResNet-38d is: the backbone's norms keep their statistics
    and affine, and its first convolution its weights.
    """

    def __init__(self, backbone: nn.Module, *, num_labels: int, num_classes: int, frozen: bool) -> None:
        super().__init__()
        last = backbone.channels.conv6
        self.model = backbone
        self.seg_decoder = Decoder(backbone.low_channels, last, num_labels)
        self.classifier = nn.Conv2d(last, num_classes, 1, bias=False)
        self.frozen = frozen
        if frozen:
            backbone.conv1a.requires_grad_(False)
        self.train()

    @property
    def normalisation(self) -> Normalisation:
        """What turns pixels into the input."""
        return self.model.normalisation

    def train(self, mode: bool = True) -> "DeepLabV3Plus":
        """`nn.Module.train`, but a frozen backbone's norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            fix_norms(self.model)
        return self

    def forward(self, image: Tensor, seen: Callable[[Tensor, Tensor, Tensor], None] | None = None) -> Outputs:
        """`image` (N, 3, H, W), normalised. In training mode N must be at least 2 for the norm behind the mean.

        seen: called with CAMs, C4 and C5 when these are there, before the decoder begins.
        """
        _, c2, _, c4, c5 = self.model.levels(image)
        cam, c4, own_c5 = self._cam(c5), c4.detach(), c5.detach()
        if seen is not None:
            seen(cam.detach(), c4, own_c5)
        return Outputs(self.seg_decoder(c2, c5).float(), cam, c4, own_c5)

    def segment(self, image: Tensor) -> Tensor:
        """The logits alone."""
        _, c2, _, _, c5 = self.model.levels(image)
        return self.seg_decoder(c2, c5).float()

    def _cam(self, c5: Tensor) -> Tensor:
        size = [max(1, int(side * CAM_SCALE)) for side in c5.shape[2:]]
        return self.classifier(F.interpolate(c5, size=size, mode="bilinear", align_corners=True)).float()


def _block(inputs: int, outputs: int, kernel: int, *, dilation: int = 1, dropout: float = 0.0) -> nn.Sequential:
    """A convolution without bias that keeps the grid, its norm, relu and, with `dropout`, that, element by element."""
    padding = dilation * (kernel // 2)
    layers = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        bn=nn.BatchNorm2d(outputs),
        relu=nn.ReLU(inplace=True),
    )
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    return nn.Sequential(layers)


def build_deeplabv3plus(backbone: str, *, num_labels: int, num_classes: int, width: float = 1.0) -> DeepLabV3Plus:
    """The net on `backbone`, one of `network.BACKBONES` or of timm's, with random weights, in training mode.
    `num_labels` counts background where there is one, `num_classes` does not; `width` is `build_backbone`'s.

    Raises `UserError` for a backbone without the maps that it takes, and as `build_backbone`.
    """
    is_resnet = backbone in RESNETS and width == 1
    body = ResNet(backbone, **SHARP_STRIDE_8) if is_resnet else build_backbone(backbone, width=width)
    return DeepLabV3Plus(body, num_labels=num_labels, num_classes=num_classes, frozen=backbone == "resnet38d")


def parameter_groups(net: DeepLabV3Plus, *, lr: float, weight_decay: float) -> list[dict]:
    """Four groups, all of them decayed: the backbone's weights and biases at `lr`, the others' at ten times that.

    A norm's scale counts as a weight. Only parameters that require a gradient are in.
    """
    groups: list[dict] = [
        {"params": [], "lr": lr * factor, "weight_decay": weight_decay} for factor in (1, HEAD_FACTOR) for _ in range(2)
    ]
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            is_head, is_bias = not name.startswith("model."), not name.endswith("weight")
            groups[2 * is_head + is_bias]["params"].append(parameter)
    return groups


def load_first_weights(net: DeepLabV3Plus, weights: str | Path, backbone: str) -> LoadReport:
    """Put into `net` what its training starts from: its backbone's weights, of ImageNet (a file of torchvision, timm or
    MXNet, or `network.PRETRAINED`), of a classifier, or of a trained net, without its heads.

    Raises `UserError` for a file that is missing or damaged, or lacks some of them.
    """
    return load_body(net.model, backbone, weights, flag="--weights")


def load_trained(net: DeepLabV3Plus, path: str | Path, flag: str) -> LoadReport:
    """Put trained weights, ours or released ones, into `net`, which they must fit wholly. `flag` names the argument.

    Raises `UserError` for a file that is missing, damaged or of another net.
    """
    source = f"{flag} {path}"
    state = under_own_names(read_weights(path, flag), net.state_dict(), source=source)
    require_own(state, OF_DHR, source=source)
    return load_whole(net, state, source=source, advice="was it trained with another --backbone or --data_set?")
