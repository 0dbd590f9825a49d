"""SEAM's net, and PPC's on it: CAMs with background as a channel, and their PCM refinement (paper/method.md, SEAM
and PPC)."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from network.classifier import PIXEL_DIM, RefiningClassifier


class SEAMOutput(NamedTuple):
    """What the net gives for N images of K classes on its grid of (h, w), an eighth of their size; all float32.

    logits: (N, K + 1), the spatial means of `cam`. cam: (N, K + 1, h, w), any value; background is the last channel.
    cam_rv: (N, K + 1, h, w), `cam` refined by the PCM, in [0, 1]. feat_pixel: (N, 128, h, w), not negative, of a net
    with a projection; else None.
    """

    logits: torch.Tensor
    cam: torch.Tensor
    cam_rv: torch.Tensor
    feat_pixel: torch.Tensor | None


class SEAMNet(RefiningClassifier):
    """Backbone, channel dropout and SEAM's heads (Wang et al., CVPR 2020), under the released names.

    The released net resizes both maps to its input's size, which here the losses and `foreground_cam` do.

    **Q** The released copy of this net in PPC runs the backbone's upper half without gradient, so that neither `fc8`
    nor the PCM could learn; here, as in SEAM, they learn.
    """

    background_first = True

    def __init__(
        self, backbone: nn.Module, *, num_classes: int, frozen: bool = True, with_projection: bool = False
    ) -> None:
        super().__init__(backbone, frozen=frozen)
        self.num_classes = num_classes
        self.with_projection = with_projection
        conv6 = backbone.channels.conv6
        self.dropout7 = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(conv6, num_classes + 1, 1, bias=False)
        if with_projection:
            self.fc_proj = nn.Conv2d(conv6, PIXEL_DIM, 1, bias=False)
        self.add_pcm()
        self.start_heads(*self.projections)
        self.finish()

    @property
    def projections(self) -> tuple[nn.Module, ...]:
        return (self.fc_proj,) if self.with_projection else ()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the head's rate."""
        return (self.fc8, *self.projections, self.f8_3, self.f8_4, self.f9)

    def forward(self, image: torch.Tensor) -> SEAMOutput:
        """`image` (N, 3, H, W), float32, normalised; any size."""
        taps = self.backbone(image)
        conv6 = self.dropout7(taps.conv6)  # one mask for both heads
        cam = self.fc8(conv6).float()
        return SEAMOutput(
            logits=cam.mean(dim=(2, 3)),
            cam=cam,
            cam_rv=self.refined_cam(image, taps, cam),
            feat_pixel=F.relu(self.fc_proj(conv6)).float() if self.with_projection else None,
        )

    def foreground_cam(self, image: torch.Tensor) -> torch.Tensor:
        """The CAMs of `image` (N, 3, H, W) that inference uses: float32 (N, K, H, W) in [0, 1], the classes' refined
        maps at its size."""
        taps = self.backbone(image)
        refined = self.refined_cam(image, taps, self.fc8(self.dropout7(taps.conv6)).float())[:, : self.num_classes]
        return F.interpolate(refined, image.shape[2:], mode="bilinear", align_corners=True)


class PPCNet(SEAMNet):
    """SEAM's net with the pixel features of PPC (Du et al., CVPR 2022)."""

    training_only_layers = ("fc_proj",)

    def __init__(self, backbone: nn.Module, *, num_classes: int, frozen: bool = True) -> None:
        super().__init__(backbone, num_classes=num_classes, frozen=frozen, with_projection=True)
