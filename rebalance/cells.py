"""A label map on a grid of features: the labels of cells, their classes' mean features, and who is like these
(paper/method.md, DHR)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from rebalance.transport import to_unit_range
from tool.device import copied_to

# Q: cells are cut from a mask raised to multiples of that, whatever the patches of the unsupervised net.
USS_PATCH = 14


def cell_labels(labels: Tensor, grid: tuple[int, int], *, multiples: tuple[int, int], num_labels: int) -> Tensor:
    """The most frequent label of each cell of a `grid` (h, w), the lowest of those that are equally frequent.

    Cells are cut from the map raised, by its nearest, to `multiples`; rows and columns between them may be in none.

    labels: int64 (H, W) of 0..num_labels, the last being no label, which competes; so is what is returned, (h, w).
    """
    raised = [-(-side // multiple) * multiple for side, multiple in zip(labels.shape, multiples, strict=True)]
    rows, columns = (_members(cells, side, labels.device).flatten() for cells, side in zip(grid, raised, strict=True))
    height, width = labels.shape
    picked = labels[(rows * height // raised[0])[:, None], columns * width // raised[1]]
    picked = picked.view(grid[0], -1, grid[1], len(columns) // grid[1]).transpose(1, 2).flatten(2)
    counts = torch.zeros(*grid, num_labels + 1, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(2, picked, torch.ones_like(picked))
    lowest_first = torch.arange(num_labels, -1, -1, device=labels.device)
    return (counts * (num_labels + 1) + lowest_first).argmax(dim=2)


def _members(cells: int, side: int, device: torch.device) -> Tensor:
    """Which of `side` rows belong to each of `cells`, int64 (cells, rows of one)."""
    # On the CPU: a GPU multiplies by 1 / cells, which puts some starts a row higher.
    starts = (torch.arange(cells, dtype=torch.float64) / cells * side).long()
    return copied_to(starts[:, None] + torch.arange(max(1, side // cells)), device)


def class_means(features: Tensor, cells: Tensor, *, num_labels: int) -> Tensor:
    """The mean feature of each label's cells, float32 (num_labels, D), 0 where there is none.

    features: float32 (D, h, w). cells: int64 (h, w) of 0..num_labels, the last being no label.
    """
    member = F.one_hot(cells.flatten(), num_labels + 1)[:, :num_labels].T
    sums = member.to(features) @ features.flatten(1).T
    return sums / member.sum(dim=1).clamp(min=1)[:, None]


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors along `dim` at length 1; those that are next to 0 shorter."""
    return F.normalize(vectors, dim=dim, eps=1e-12)


def likeness(features: Tensor, means: Tensor) -> Tensor:
    """How like each label's mean each cell is: n(cosine), float32 (L, h, w) of 0..1.

    features: float32 (D, h, w). means: float32 (L, D).
    """
    cosines = unit(means, 1) @ unit(features.flatten(1), 0)
    return to_unit_range(cosines).view(-1, *features.shape[1:])
