"""From the CRF posteriors of two backgrounds to what is sure of each cell (paper/method.md, AffinityNet)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.dataset import IGNORE

STRIDE = 8  # pixels of a cell's side
MIN_SCORE = 1e-5  # below that in all, nothing is known: beside the image


def grid_labels(low: Tensor, high: Tensor) -> Tensor:
    """What is sure of each cell, int64 (H / 8, W / 8): 0 background, 1.. a class, 255 neither.

    low, high: float (K, H, W), background first, the sides multiples of 8; posteriors of a low alpha, which leaves
    little foreground, and of a high one, which leaves little background. What either is sure of is taken, the classes
    of low and the background of high. Number n is row n of `low`: it tells an image's classes from each other, no more.
    """
    low, high = (F.avg_pool2d(scores[None], STRIDE)[0] for scores in (low, high))
    label = low.argmax(dim=0)  # of equals the lowest
    label = torch.where(label == 0, IGNORE, label)
    label = torch.where(high.argmax(dim=0) == 0, 0, label)
    return torch.where(torch.maximum(low.amax(dim=0), high.amax(dim=0)) < MIN_SCORE, IGNORE, label)
