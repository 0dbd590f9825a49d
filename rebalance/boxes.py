"""Where an image's real pixels lie in its crop, and what belongs to them on coarser grids (paper/method.md, DHR)."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Box(NamedTuple):
    """A rectangle of pixels, the right and lower ends left out."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    @property
    def part(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def on_grid(self, side: int, grid: tuple[int, int]) -> "Box":
        """The box in a square of `side` pixels on a `grid` (h, w) of its cells; at least one cell stays."""
        (top, bottom), (left, right) = (
            (int(start / side * cells), int(end / side * cells))
            for start, end, cells in zip((self.top, self.left), (self.bottom, self.right), grid, strict=True)
        )
        return Box(left, top, max(right, left + 1), max(bottom, top + 1))


def in_box(maps: Tensor, box: Box, side: int) -> Tensor:
    """What of maps (..., h, w), which cover a crop of `side` pixels, lies in its `box`."""
    rows, columns = box.on_grid(side, maps.shape[-2:]).part
    return maps[..., rows, columns]


def nearest(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (..., H, W) at `size` (h, w) by their nearest: row i is row floor(i H / h)."""
    rows, columns = (
        torch.arange(new, device=maps.device) * old // new for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., rows[:, None], columns]


def features_of_crop(features: Tensor, *, image_size: tuple[int, int], crop: Box, mirrored: bool) -> Tensor:
    """An image's unsupervised features in a crop of it, bilinear, on as fine a grid.

    Args:
        features: of the whole image as it is in its file, (D, h, w), whose cells cover it evenly.
        image_size: width and height of the image that is cropped, whatever it was resized to.
        crop: in that image, after it was mirrored where it was `mirrored`.

    Returns:
        float32 (D, h', w'), h' and w' the crop's shares of h and w, rounded, at least 1.
    """
    found = (features.flip(-1) if mirrored else features).float()
    spans = ((crop.top, crop.bottom), (crop.left, crop.right))
    for axis, side, (start, end) in zip((1, 2), image_size[::-1], spans, strict=True):
        below, share = _places(found.shape[axis], side, start, end)
        above = (below + 1).clamp(max=found.shape[axis] - 1)
        shape = [1, 1, 1]
        shape[axis] = -1
        found = torch.lerp(found.index_select(axis, below), found.index_select(axis, above), share.view(shape))
    return found


def _places(cells: int, side: int, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Along one side of an image with `cells` of features, for each cell of the crop from `start` to `end`: the last
    cell before its centre, int64, and how far that is on the way to the next, float32 of 0..1."""
    count = max(1, int(cells * (end - start) / side + 0.5))
    centres = (start + (np.arange(count) + 0.5) * (end - start) / count) * cells / side - 0.5
    centres = centres.clip(0, cells - 1)
    below = np.floor(centres)
    return torch.from_numpy(below.astype(np.int64)), torch.from_numpy((centres - below).astype(np.float32))
