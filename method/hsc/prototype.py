"""Momentum prototypes: what of a step's features survives it."""

import torch
from torch import Tensor, nn

from network.hsc import PIXEL_DIM, REGION_DIM


class PrototypeBanks(nn.Module):
    """One bank a level and view, as buffers: saved, loaded and moved to the device with everything else.

    Buffers (standard normal at the start):
        class_bank (2, L, C): view, label (background last), channel of the region features, 256 as released.
        region_bank (2, 2, C): view, background or foreground, channel of the region features.
        pixel_bank (2, L, 128): view, label, channel of the pixel features.
    """

    def __init__(self, num_labels: int, region_channels: int = REGION_DIM) -> None:
        super().__init__()
        self.register_buffer("class_bank", torch.randn(2, num_labels, region_channels))
        self.register_buffer("region_bank", torch.randn(2, 2, region_channels))
        self.register_buffer("pixel_bank", torch.randn(2, num_labels, PIXEL_DIM))

    def move(self, *, class_bank: Tensor, region_bank: Tensor, pixel_bank: Tensor) -> None:
        """Take over the rows that a step's terms computed.

        The buffers are replaced, not written to: the step's graph still holds the old rows for its backward pass.
        """
        self.class_bank, self.region_bank, self.pixel_bank = class_bank, region_bank, pixel_bank
