"""What DHR's net learns from: its image's tags and the labels made in this step (paper/method.md, DHR)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from rebalance.boxes import Box, in_box, nearest
from tool.label_loss import segmentation_loss


def rebalance_losses(
    cams: Tensor, logits: Tensor, labels: Tensor, tags: Tensor, boxes: Sequence[Box]
) -> dict[str, Tensor]:
    """`cls`, `seg` and their sum, `total`, scalars; of several processes each has its share (`segmentation_loss`).

    cams: raw, float32 (N, K, h, w). logits: (N, L, h', w'). labels: int64 (N, s, s), 255 where a pixel is left out,
    brought to the logits' grid. tags: (N, K), zeros and ones. boxes: of real pixels, beside which no CAM counts.
    """
    side = labels.shape[1]
    scores = torch.stack([in_box(maps, box, side).mean((1, 2)) for maps, box in zip(cams, boxes, strict=True)])
    cls = F.multilabel_soft_margin_loss(scores, tags.to(scores))
    seg = segmentation_loss(logits, nearest(labels, logits.shape[2:]))
    return {"cls": cls, "seg": seg, "total": cls + seg}
