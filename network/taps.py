"""What a backbone gives: three feature maps for the heads, or all five, and the stages that compute them."""

from typing import NamedTuple

import torch
from torch import nn


class Taps(NamedTuple):
    """What a backbone hands to the heads: three feature maps, at output stride 8 on one grid, an eighth of the image's
    size (rounded up).

    A backbone's attribute `channels` holds the three channel counts in the same fields.
    """

    conv4: torch.Tensor
    conv5: torch.Tensor
    conv6: torch.Tensor


class Levels(NamedTuple):
    """All five feature maps of a backbone, at strides 2 or 4, 4, and as its `Taps`; its attributes `first_channels` and
    `low_channels` hold how many channels c1 and c2 have."""

    c1: torch.Tensor
    c2: torch.Tensor
    c3: torch.Tensor
    c4: torch.Tensor
    c5: torch.Tensor


# What computes each tap, one layer after the other, from the tap before it, the first from the image. A backbone that
# is such a chain has them as `stages`, for nets that change what a stage reads.
Stages = tuple[tuple[nn.Module, ...], tuple[nn.Module, ...], tuple[nn.Module, ...]]
