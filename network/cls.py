"""The plain CAM classifier: a backbone, channel dropout, the spatial mean and a score for each class."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from network.classifier import Classifier


class ClsOutput(NamedTuple):
    """`logits` (N, K) and the class activation maps `cam` (N, K, h, w), not negative; both float32."""

    logits: torch.Tensor
    cam: torch.Tensor


class ClsNet(Classifier):
    """Classifier whose last layer, applied to the map, gives the CAMs (paper/method.md, Recipe, seeds, score)."""

    def __init__(self, backbone: nn.Module, *, num_classes: int, frozen: bool = True) -> None:
        super().__init__(backbone, frozen=frozen)
        self.dropout7 = nn.Dropout2d(0.5)
        self.fc8 = nn.Conv2d(backbone.channels.conv6, num_classes, 1, bias=False)
        nn.init.xavier_uniform_(self.fc8.weight)
        self.finish()

    @property
    def head_layers(self) -> tuple[nn.Module, ...]:
        """The layers that learn at the head's rate."""
        return (self.fc8,)

    def forward(self, image: torch.Tensor) -> ClsOutput:
        """`image` (N, 3, H, W), float32, normalised. In training mode `cam` has the dropout in it."""
        score = self.fc8(self.dropout7(self.backbone(image).conv6)).float()
        return ClsOutput(logits=score.mean(dim=(2, 3)), cam=F.relu(score))

    def foreground_cam(self, image: torch.Tensor) -> torch.Tensor:
        """The CAMs of `image` (N, 3, H, W) that inference uses: float32 (N, K, h, w), not negative."""
        return F.relu(self.fc8(self.backbone(image).conv6).float())
