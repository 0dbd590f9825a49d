"""Nets whose dense features part regions without having seen a mask: CAUSE, STEGO, DINOv2, and any backbone as a
substitute (paper/method.md, DHR)."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from network import DINOV2
from network.backbone_weights import load_body
from network.backbones import build_backbone
from network.cause import CauseHead, StegoHead, load_cause, load_stego
from network.dino import DINO, DinoViT, load_dino

BACKBONE_FLAG, HEAD_FLAG = "--uss_backbone_weights", "--uss_weights"
STRIDE = 8  # of a backbone's map


class Stride8(nn.Module):
    """The last map of a backbone of stage 1 or 3."""

    patch = STRIDE

    def __init__(self, name: str, width: float = 1.0) -> None:
        super().__init__()
        self.body = build_backbone(name, width=width)
        self.channels: int = self.body.channels.conv6
        self.normalisation = self.body.normalisation

    def forward(self, image: Tensor) -> Tensor:
        """(N, channels, h / 8, w / 8) of `image` (N, 3, h, w), normalised."""
        return self.body(image).conv6


class Reduction(nn.Module):
    """Features less their mean, on the leading eigenvectors of their covariance."""

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        """mean: (E). components: (dim, E)."""
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("components", components)
        self.dim = len(components)

    def forward(self, features: Tensor) -> Tensor:
        """(N, E, h, w) to (N, dim, h, w), float32. Computed in float32 also under autocast."""
        with torch.autocast(features.device.type, enabled=False):
            centred = features.float() - self.mean[:, None, None]
            return torch.einsum("de,nehw->ndhw", self.components, centred)


class FeatureNet(nn.Module):
    """A backbone and what brings its map to `dim` channels, or nothing: the map itself."""

    def __init__(self, backbone: DinoViT | Stride8, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self.patch, self.normalisation = backbone.patch, backbone.normalisation
        self.dim: int = backbone.channels if head is None else head.dim

    def forward(self, image: Tensor) -> Tensor:
        """Features, float32 (N, dim, h / patch, w / patch), of `image` (N, 3, h, w), normalised, of such sides."""
        features = self.backbone(image)
        return features.float() if self.head is None else self.head(features).float()


class Kind(NamedTuple):
    """What a --uss is: its backbone by --backbone, its head and how that is loaded; None: reduced by PCA."""

    backbone: Callable[[str], nn.Module]
    head: Callable[[int], nn.Module] | None = None
    load_head: Callable[[nn.Module, str | Path, str], None] | None = None


KINDS = {
    "CAUSE": Kind(lambda name: DinoViT(DINOV2[name]), CauseHead, load_cause),
    "STEGO": Kind(lambda name: DinoViT(DINO), StegoHead, load_stego),
    "DINOv2": Kind(lambda name: DinoViT(DINOV2[name])),
    "Backbone": Kind(Stride8),
}


def load_feature_net(
    uss: str, backbone: str, *, backbone_weights: str | Path, head_weights: str | Path | None, width: float = 1.0
) -> FeatureNet:
    """The net of `uss`, a key of `KINDS`, on `backbone`, with the weights of its files, in evaluation mode. One without
    a head of its own, and so without `head_weights`, gives the backbone's map, which is yet to be reduced. width: of
    resnet38d, a channel multiplier.

    Raises `UserError` for a file that is missing, damaged or of another net.
    """
    kind = KINDS[uss]
    body = kind.backbone(backbone, **({} if width == 1 else {"width": width}))
    if isinstance(body, Stride8):
        load_body(body.body, backbone, backbone_weights, flag=BACKBONE_FLAG)
    else:
        load_dino(body, backbone_weights, BACKBONE_FLAG)
    head = None
    if kind.head is not None:
        head = kind.head(body.channels)
        kind.load_head(head, head_weights, HEAD_FLAG)
    return FeatureNet(body, head).eval().requires_grad_(False)
