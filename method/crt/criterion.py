"""What CRT's branches cost: each its labels, and the difference of their maps (paper/method.md, CRT)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from method.crt.config import CRTConfig
from method.learner import Moment
from network.crt import CRTOutput


def label_loss(maps: Tensor, label: Tensor) -> Tensor:
    """The multilabel soft margin loss of the means of raw `maps` (N, K, h, w) and `label` (N, K), zeros and ones."""
    return F.multilabel_soft_margin_loss(maps.mean((2, 3)), label)


def consistency_loss(maps: Tensor, others: Tensor, *, side: int) -> Tensor:
    """The mean absolute difference of two branches' raw maps (N, K, ...), each resized to `side` x `side`, bilinear,
    with corners aligned."""
    one, other = (F.interpolate(each, (side, side), mode="bilinear", align_corners=True) for each in (maps, others))
    return (one - other).abs().mean()


class CRTCriterion(nn.Module):
    """The terms of a step: cnn, transformer and consistency, which is 0 before its first epoch."""

    def __init__(self, config: CRTConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: CRTOutput, label: Tensor, moment: Moment) -> dict[str, Tensor]:
        """outputs: raw maps. label: (N, K), zeros and ones."""
        config = self.config
        terms = {
            "cnn": label_loss(outputs.cnn, label),
            "transformer": label_loss(outputs.transformer, label),
        }
        if moment.epoch < config.consistency_from:
            return {**terms, "consistency": torch.zeros_like(terms["cnn"])}
        difference = consistency_loss(outputs.cnn, outputs.transformer, side=config.side)
        return {**terms, "consistency": config.consistency_weight * difference}
