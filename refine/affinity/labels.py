"""From the CRF posteriors of two backgrounds to pairs that belong together or apart (spec/ppc.md, AffinityNet)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.dataset import IGNORE
from tool.pairs import Pairs

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


class PairLabels(NamedTuple):
    """Bool (N, P) each, of which a pair has one or none: both background; the same class; different."""

    background: Tensor
    foreground: Tensor
    different: Tensor


def pair_labels(label: Tensor, pairs: Pairs) -> PairLabels:
    """Those of the `pairs` of `label`'s grid: integers (N, h, w), 0 background, 255 unknown.

    By slices, as the affinities: numbers of cells would have to be copied to a GPU at each step.
    """
    none = label.new_zeros(len(label), 0)
    first, second = (
        torch.cat([none, *(label[(..., *place)].flatten(1) for place in places)], dim=1)
        for places in (pairs.starts, pairs.ends)
    )
    known = (first != IGNORE) & (second != IGNORE)
    same = known & (first == second)
    return PairLabels(same & (first == 0), same & (first != 0), known & ~same)
