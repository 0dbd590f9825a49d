"""DeepLab v2 (with the image mean as a fifth branch) and v1, under the released names."""

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network.backbones import batch_norms

ASPP_DILATIONS = (6, 12, 18, 24)
FOV_DILATION = 12
FOV_CHANNELS = 512
DROPOUT = 0.5


class DeepLab(nn.Module):
    """What the versions share: a backbone, a head from its map to the classes' scores, and how norms are treated.

    `BODY` is the backbone's name in a state dict. `aligned`: corners are, where logits are brought to another size.

    No norm's affine is trained; the running statistics move, unless `frozen_norms`: then the backbone's norms stay in
    evaluation mode. The head's, which are new, have nothing to preserve.
    """

    BODY = "backbone"
    aligned = True

    def __init__(self, backbone: nn.Module, *, frozen_norms: bool) -> None:
        super().__init__()
        self.add_module(self.BODY, backbone)
        self.frozen_norms = frozen_norms

    @property
    def normalisation(self) -> Normalisation:
        """What turns pixels into the input."""
        return self.backbone.normalisation

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the head's rate."""
        raise NotImplementedError

    def head(self, feat: torch.Tensor) -> torch.Tensor:
        """The backbone's last map (N, C, h, w) to scores (N, classes, h, w)."""
        raise NotImplementedError

    @property
    def weights(self) -> nn.Module:
        """The module whose state files hold, under its names with any prefix."""
        return self

    def draw_head(self) -> None:
        """Draw the head's first weights."""
        for layer in self.head_layers:
            for part in layer.modules():
                if isinstance(part, nn.Conv2d):
                    nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")

    def finish(self) -> None:
        """Draw the head's weights and take the norms' affine out of the training; what a constructor ends with."""
        self.draw_head()
        for norm in batch_norms(self):
            norm.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> "DeepLab":
        """`nn.Module.train`, but frozen norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norms:
            for norm in batch_norms(self.backbone):
                norm.eval()
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """`image` (N, 3, H, W), normalised, any size, to logits (N, classes, H, W), float32 also under
        autocast. In training mode N must be at least 2 for the norm behind v2's image mean."""
        scores = self.head(self.backbone(image).conv6).float()
        return F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: four dilated 3x3 convolutions and, with `image_mean`, the map's mean through a
    1x1 one, brought together by another."""

    def __init__(self, in_channels: int, out_channels: int, *, image_mean: bool, bn_momentum: float) -> None:
        super().__init__()
        for number, dilation in enumerate(ASPP_DILATIONS, start=1):
            branch = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(out_channels, momentum=bn_momentum),
                nn.ReLU(inplace=True),
            )
            self.add_module(f"branch{number}", branch)
        self.image_mean = image_mean
        if image_mean:
            self.branch5_conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.branch5_bn = nn.BatchNorm2d(out_channels, momentum=bn_momentum)
        self.conv_cat = nn.Sequential(
            nn.Conv2d((len(ASPP_DILATIONS) + image_mean) * out_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels, momentum=bn_momentum),
            nn.ReLU(inplace=True),
            nn.Dropout(DROPOUT),
        )

    def forward(self, feat: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, h, w) to (N, out_channels, h, w), not negative."""
        return self.conv_cat(torch.cat(list(self._branches(feat)), dim=1))

    def _branches(self, feat: torch.Tensor) -> Iterator[torch.Tensor]:
        for branch in (self.branch1, self.branch2, self.branch3, self.branch4):
            yield branch(feat)
        if self.image_mean:
            mean = self.branch5_conv(feat.mean(dim=(2, 3), keepdim=True))
            yield F.relu(self.branch5_bn(mean)).expand(-1, -1, *feat.shape[2:])  # one pixel, resized


class DeepLabV2(DeepLab):
    """Backbone, ASPP, and a 1x1 classifier; the features are dropped twice, at the end of ASPP and before it."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_classes: int,
        bn_momentum: float,
        frozen_norms: bool,
        aspp_dim: int,
        aspp_global: bool,
    ) -> None:
        super().__init__(backbone, frozen_norms=frozen_norms)
        self.aspp = ASPP(backbone.channels.conv6, aspp_dim, image_mean=aspp_global, bn_momentum=bn_momentum)
        self.dropout = nn.Dropout(DROPOUT)
        self.cls_conv = nn.Conv2d(aspp_dim, num_classes, 1)
        self.finish()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        return (self.aspp, self.cls_conv)

    def head(self, feat: torch.Tensor) -> torch.Tensor:
        return self.cls_conv(self.dropout(self.aspp(feat)))


class DeepLabV1(DeepLab):
    """Backbone, one 3x3 convolution with a large field of view, a 1x1 one, and a 1x1 classifier."""

    def __init__(self, backbone: nn.Module, *, num_classes: int, bn_momentum: float, frozen_norms: bool) -> None:
        super().__init__(backbone, frozen_norms=frozen_norms)
        self.conv_fov = nn.Conv2d(
            backbone.channels.conv6, FOV_CHANNELS, 3, padding=FOV_DILATION, dilation=FOV_DILATION, bias=False
        )
        self.bn_fov = nn.BatchNorm2d(FOV_CHANNELS, momentum=bn_momentum)
        self.conv_fov2 = nn.Conv2d(FOV_CHANNELS, FOV_CHANNELS, 1, bias=False)
        self.bn_fov2 = nn.BatchNorm2d(FOV_CHANNELS, momentum=bn_momentum)
        self.dropout = nn.Dropout(DROPOUT)
        self.cls_conv = nn.Conv2d(FOV_CHANNELS, num_classes, 1)
        self.finish()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        return (self.conv_fov, self.conv_fov2, self.cls_conv)

    def head(self, feat: torch.Tensor) -> torch.Tensor:
        feat = F.relu(self.bn_fov(self.conv_fov(feat)))
        feat = F.relu(self.bn_fov2(self.conv_fov2(feat)))
        return self.cls_conv(self.dropout(feat))


NETS: dict[str, type[DeepLab]] = {"deeplabv2": DeepLabV2, "deeplabv1": DeepLabV1}
