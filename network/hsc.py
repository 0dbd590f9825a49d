"""The HSC net: CAMs with background as a channel, their PCM refinement, pixel and region features (paper/method.md)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from network.classifier import PIXEL_DIM, RefiningClassifier

REGION_DIM = 256


class HSCOutput(NamedTuple):
    """What the net gives for N images of K classes on its grid of (h, w), an eighth of their size; all float32.

    logits: (N, K + 1), the spatial means of `cam`. cam: (N, K + 1, h, w), any value; background is the last channel.
    cam_rv: (N, K + 1, h, w), `cam` refined by the PCM, in [0, 1]. feat_pixel: (N, 128, h, w), not negative.
    feat_region: (N, 256 as released, h, w), any value. Of the last three, those that the net was built without are
    None.
    """

    logits: torch.Tensor
    cam: torch.Tensor
    cam_rv: torch.Tensor | None
    feat_pixel: torch.Tensor | None
    feat_region: torch.Tensor | None


class HSCNet(RefiningClassifier):
    """Backbone and heads of HSC, under the released names.

    `freeze_region_norm` says whether a frozen net keeps the new norm in `extra_F`, too.
    `region_channels` are those of the region features; None: the net has none, as PPC's on EPS.
    `region_head_at_backbone_rate` keeps `extra_F` out of `head_layers`.
    A method that has no use for the refined maps, or for the features, need not wait for them: without `with_refined`,
    `with_features`, their layers are there but do not run.
    """

    training_only_layers = ("proj_fc", "extra_F", "f8_3", "f8_4", "f9")

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_classes: int,
        frozen: bool = True,
        region_channels: int | None = REGION_DIM,
        # The published weights were trained with the new batch norm in extra_F frozen like the pretrained ones, so that
        # it is the identity. The sane value is False: a norm without history has nothing to preserve.
        freeze_region_norm: bool = True,
        # Likewise extra_F, though new, learnt at the backbone's rate. The sane value is False: the heads' rate.
        region_head_at_backbone_rate: bool = True,
        with_refined: bool = True,
        with_features: bool = True,
    ) -> None:
        super().__init__(backbone, frozen=frozen)
        conv6 = backbone.channels.conv6
        self.fc8 = nn.Conv2d(conv6, num_classes + 1, 1, bias=False)
        self.proj_fc = nn.Conv2d(conv6, PIXEL_DIM, 1, bias=False)
        if region_channels is not None:
            self.extra_F = nn.Sequential(
                nn.Conv2d(conv6, region_channels, 3, padding=1),
                nn.BatchNorm2d(region_channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(region_channels, region_channels, 1),
            )
        self.add_pcm()
        self.start_heads(self.proj_fc)

        self.num_classes = num_classes
        self.region_channels = region_channels
        self.freeze_region_norm = freeze_region_norm
        self.region_head_at_backbone_rate = region_head_at_backbone_rate
        self.with_refined = with_refined
        self.with_features = with_features
        self.finish()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the head's rate."""
        layers = (self.fc8, self.proj_fc, self.f8_3, self.f8_4, self.f9)
        at_backbone_rate = self.region_channels is None or self.region_head_at_backbone_rate
        return layers if at_backbone_rate else (*layers, self.extra_F)

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The layers whose norms a frozen net keeps."""
        keeps_region_norm = self.region_channels is not None and self.freeze_region_norm
        return (self.backbone, self.extra_F) if keeps_region_norm else (self.backbone,)

    def forward(self, image: torch.Tensor) -> HSCOutput:
        """`image` (N, 3, H, W), float32, normalised; any size."""
        taps = self.backbone(image)
        cam = self.fc8(taps.conv6).float()
        cam_rv = self.refined_cam(image, taps, cam) if self.with_refined else None
        with_region = self.with_features and self.region_channels is not None
        return HSCOutput(
            logits=cam.mean(dim=(2, 3)),
            cam=cam,
            cam_rv=cam_rv,
            feat_pixel=F.relu(self.proj_fc(taps.conv6)).float() if self.with_features else None,
            feat_region=self.extra_F(taps.conv6).float() if with_region else None,
        )

    def foreground_cam(self, image: torch.Tensor) -> torch.Tensor:
        """The CAMs of `image` (N, 3, H, W) that inference uses: float32 (N, K, h, w), the classes' shares of the
        softmax over all channels."""
        cam = self.fc8(self.backbone(image).conv6).float()
        return cam.softmax(dim=1)[:, : self.num_classes]
