"""Maps brought to pixels along superpixels, instead of resized: of any method (paper/method.md, MSA)."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from network.cells import CELL
from network.scn import SCN
from network.superpixel import affinity, step, up
from tool.cam import maps_of_pair, turned_back
from tool.device import autocast


class Superpixels(NamedTuple):
    """A frozen superpixel network beside a method's own.

    steps: how often maps walk between superpixels before they are brought to pixels. amp: of `tool.flags.AMP`.
    """

    net: SCN
    steps: int = 0
    amp: str = "off"

    def associations(self, pair: Tensor) -> Tensor:
        """Of an image and its mirror image, normalised, float (2, 3, H, W), multiples of 16: float32 (2, 9, H, W)."""
        with autocast(pair.device, self.amp):
            return maps_of_pair(self.net, pair)

    def spread(self, pair: Tensor, associations: Tensor) -> Tensor:
        """The maps of an image and of its mirror image, float32 (2, K, h, w), as `along` brings them to pixels, the
        latter turned back, added: float32 (K, H, W)."""
        return turned_back(self.along(pair, associations))

    def along(self, maps: Tensor, associations: Tensor) -> Tensor:
        """The maps of N images, float32 (N, K, h, w) of any size, along the superpixels of `associations`, (N, 9, H,
        W): float32 (N, K, H, W).

        A superpixel takes what the maps have at its cell, resized to the cells' grid where they have another.
        """
        cells = tuple(side // CELL for side in associations.shape[2:])
        if maps.shape[2:] != cells:
            maps = F.interpolate(maps, cells, mode="bilinear", align_corners=False)
        shares = affinity(associations) if self.steps else None
        for _ in range(self.steps):
            maps = step(maps, shares)
        return up(maps, associations)
