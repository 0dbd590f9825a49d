"""The loss of IRN's displacements, beside that of its edges (paper/method.md, IRN)."""

import torch
from torch import Tensor

from refine.pairs import EPSILON, PairLabels
from tool.distributed import sum_over_processes, world_size
from tool.pairs import Pairs

WEIGHT = 0.5  # of each of the two terms


def displacement_losses(displacement: Tensor, labels: PairLabels, pairs: Pairs) -> dict[str, Tensor]:
    """Scalars dp_fg and dp_bg: how far the displacements of two cells of a class are from pointing to one place, and
    those of two background cells from being equal; per coordinate, means over the pairs.

    displacement: float32 (N, 2, h, w), along y and x, in cells. labels: of the `pairs` of that grid.

    Means are over the pairs of all processes; each returns its own pairs' share, as `pair_losses` does.
    """
    sums = displacement.new_zeros(2)
    foreground, background = (
        mask.split([(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in pairs.starts], dim=1)
        for mask in (labels.foreground, labels.background)
    )
    every = zip(pairs.offsets, pairs.starts, pairs.ends, foreground, background, strict=True)
    for offset, start, end, is_foreground, is_background in every:
        step = (displacement[(..., *start)] - displacement[(..., *end)]).flatten(2)
        miss = sum((step[:, axis] - offset[axis]).abs() for axis in (0, 1))
        sums = sums + torch.stack(
            [torch.where(is_foreground, miss, 0).sum(), torch.where(is_background, step.abs().sum(dim=1), 0).sum()]
        )
    counts = sum_over_processes(torch.stack([labels.foreground.sum(), labels.background.sum()])).float()
    terms = world_size() * sums / (2 * counts + EPSILON)
    return {"dp_fg": terms[0], "dp_bg": terms[1]}
