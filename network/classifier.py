"""What stage 1's nets share: a backbone under heads, kept as it was loaded or trained whole, and SEAM's heads."""

from typing import ClassVar, TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from data.normalisation import Normalisation
from network.backbones import drop_nothing, fix_norms, freeze_stem
from network.pcm import refine
from network.taps import Taps

PIXEL_DIM = 128  # channels of a projection to pixel features
Net = TypeVar("Net", bound="Classifier")


class Classifier(nn.Module):
    """A backbone and its heads, which a subclass adds before it calls `finish`.

    With `frozen`, the batch norms of `fixed` keep their statistics and affine also in training mode, and the stem its
    weights. Without, everything trains and nothing is dropped.
    """

    # Layers of the checkpoint that inference does without.
    training_only_layers: ClassVar[tuple[str, ...]] = ()
    # Whether its files score background in channel 0 of fc8; the net itself does in the last, where it has one.
    background_first: ClassVar[bool] = False

    def __init__(self, backbone: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen = frozen

    def finish(self) -> None:
        """Set the net into training mode, frozen or not, when all its layers are there."""
        if self.frozen:
            freeze_stem(self.backbone)
        else:
            drop_nothing(self)
        self.train()

    @property
    def normalisation(self) -> Normalisation:
        """What turns pixels into the input."""
        return self.backbone.normalisation

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the heads' rate."""
        raise NotImplementedError

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """The labels' scores of `image` (N, 3, H, W), float32 (N, C): the logits of `forward` in evaluation mode, of
        images of any size; what refines maps takes memory by the square of an image's pixels."""
        return self.fc8(self.backbone(image).conv6).float().mean(dim=(2, 3))

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The layers whose norms a frozen net keeps."""
        return (self.backbone,)

    def train(self: Net, mode: bool = True) -> Net:
        """`nn.Module.train`, but a frozen net's norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen:
            for layers in self.fixed:
                fix_norms(layers)
        return self


class RefiningClassifier(Classifier):
    """A classifier with background as a channel, and the pixel correlation module (SEAM) that refines its CAMs.

    A subclass adds `fc8`, its projections and, by `add_pcm`, the module's layers, under the released names.
    """

    def add_pcm(self) -> None:
        """Add the layers that say which pixels are alike."""
        conv4, conv5, _ = self.backbone.channels
        self.f8_3 = nn.Conv2d(conv4, 64, 1, bias=False)
        self.f8_4 = nn.Conv2d(conv5, 128, 1, bias=False)
        self.f9 = nn.Conv2d(3 + 64 + 128, 192, 1, bias=False)

    def start_heads(self, *projections: nn.Module) -> None:
        """Random weights of `fc8`, of `projections` and of the PCM's layers (paper/method.md, Net)."""
        for layer in (self.fc8, *projections):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.kaiming_normal_(self.f8_3.weight)
        nn.init.kaiming_normal_(self.f8_4.weight)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def refined_cam(self, image: torch.Tensor, taps: Taps, cam: torch.Tensor) -> torch.Tensor:
        """The PCM's refinement of `cam`, of the same shape; it learns what is similar, and does not shape the rest."""
        small = F.interpolate(image, size=cam.shape[2:], mode="bilinear", align_corners=True)
        parts = [small, F.relu(self.f8_3(taps.conv4.detach())), F.relu(self.f8_4(taps.conv5.detach()))]
        return refine(cam, self.f9(torch.cat(parts, dim=1)))
