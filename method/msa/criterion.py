"""What MSA's classifier costs: its labels, and how well its maps' prototypes rebuild the image (paper/method.md, MSA).

Shapes: N images, or patches of them, K classes, C channels of the target, (h, w) cells, P = h w of them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from method.msa.config import IPCConfig, MSAConfig
from network.cells import CELL
from network.msa import MSAOutput
from network.superpixel import pool
from tool.cam import positive_by_maximum
from tool.distributed import sum_over_processes, world_size

EPSILON = 1e-5
INSIDE_EPSILON = 1e-3


def patches(maps: Tensor, number: int) -> Tensor:
    """`maps` (N, C, h, w) cut into `number` patches of one size, row by row, (number * N, C, h', w'): the first of all
    images, then the second; what is over at the right and below is dropped. `number` is a square number.

    Maps too small for so many are one patch.
    """
    side = math.isqrt(number)
    height, width = (length // side for length in maps.shape[2:])
    if 0 in (height, width):
        return maps
    cut = maps[..., : height * side, : width * side].unflatten(3, (side, width)).unflatten(2, (side, height))
    return cut.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)


def rebuilding_loss(maps: Tensor, target: Tensor, *, config: IPCConfig) -> tuple[Tensor, Tensor]:
    """IPC's loss, not weighted, and the share of patches that count, without gradient.

    Each class, and background, has a prototype in a patch, the mean of the target's unit vectors weighted by its map;
    the loss is the squared error of what the prototypes, mixed by the maps, give of these vectors. It is that of the
    patches of all processes, of which each gives its part of the mean.

    Args:
        maps: float (N, K, h, w), 0..1, of absent classes 0. target: float (N, C, h, w), no gradient; 0 beside the
            image.
    """
    cam, target = patches(maps, config.patches), patches(target, config.patches)
    background = 1 - cam.amax(1, keepdim=True)
    inside = (target.sum(1, keepdim=True) != 0).to(cam.dtype)
    kept = _kept(background.detach(), inside, config)
    totals = sum_over_processes(torch.stack([kept.sum(), kept.new_full((), kept.numel())]))
    inside = inside * torch.where(totals[0] > 0, kept, 1)

    cells = inside.flatten(2)
    share = torch.cat([background, cam], dim=1).flatten(2) * cells  # (N, K + 1, P)
    unit = F.normalize(target, dim=1, eps=1e-12).flatten(2) * cells  # (N, C, P)
    prototypes = share @ unit.transpose(1, 2) / (share.sum(2, keepdim=True) + EPSILON)  # (N, K + 1, C)
    error = (prototypes.transpose(1, 2) @ share - unit).square() * cells
    error = error.mean(1) if config.mean_over_channels else error.sum(1)
    loss = error.sum() * world_size() / (sum_over_processes(inside.sum()) + INSIDE_EPSILON)
    return loss, totals[0] / totals[1]


def _kept(background: Tensor, inside: Tensor, config: IPCConfig) -> Tensor:
    """Which patches have both foreground and background, (N, 1, 1, 1), 0 or 1."""
    foreground = (1 - background) * inside if config.foreground_inside else 1 - background * inside
    parts = [part.amax((1, 2, 3), keepdim=True) > config.threshold for part in (foreground, background * inside)]
    return (parts[0] & parts[1]).to(inside.dtype)


def rebuilt_target(image: Tensor, saliency: Tensor | None, association: Tensor | None) -> Tensor:
    """What prototypes rebuild, on the grid of the maps: the image's colours, (N, 3, h, w), or where there is saliency
    that and the rest to 1, (N, 2, h, w); of superpixels or, without `association`, of cells. 0 beside the image.

    Args:
        image: float (N, 3, 16 h, 16 w), normalised, exactly 0 beside it. saliency: (N, 1, 16 h, 16 w), 0..1.
        association: (N, 9, 16 h, 16 w).
    """
    corner = image[:, :, ::CELL, ::CELL]  # of each cell, which says whether it is in the image
    if association is not None:
        target = pool(image if saliency is None else saliency, association)
    elif saliency is None:
        target = F.interpolate(image, corner.shape[2:], mode="bilinear", align_corners=False)
    else:
        target = saliency[:, :, ::CELL, ::CELL]
    if saliency is not None:
        target = torch.cat([target, 1 - target], dim=1)
    return target * (corner.sum(1, keepdim=True) != 0)


class MSACriterion(nn.Module):
    """The terms of a step, cls and ipc. Nothing of it outlives a step."""

    def __init__(self, config: MSAConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, output: MSAOutput, target: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The terms, and the share of patches that count.

        Args:
            target: of `rebuilt_target`. label: (N, K), zeros and ones. Of the output, background is not read.
        """
        maps = positive_by_maximum(output.logits[:, 1:]) * label[:, :, None, None]
        ipc, kept = rebuilding_loss(maps, target, config=self.config.ipc)
        cls = F.multilabel_soft_margin_loss(output.score[:, 1:], label)
        return {"cls": cls, "ipc": self.config.ipc.weight * ipc}, kept
