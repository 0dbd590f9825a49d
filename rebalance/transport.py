"""Optimal transport between cells and classes, by Sinkhorn's rounds: each class gets its share (paper/method.md, DHR).

Of many problems at once, of unlike sizes: what a problem lacks of the cells or classes of the largest is masked out.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

TEMPERATURE = 0.1
# Q: rounds end when the cells' factors move by less than .01 in mean, though these are about one over their number:
# thousands of cells stop after two rounds. Converged: by less than that share of theirs, as the cells' sums are wrong.
TOLERANCES = {"released": 0.01, "converged": 1e-5}
MOST_ROUNDS = {"released": 100, "converged": 1000}
MIN_RANGE = 1e-5
# On a GPU a look waits for all that it was given to do; a round is some thirty small kernels.
ROUNDS_BETWEEN_LOOKS = 4


def transport(
    scores: Tensor, *, rule: str = "released", cells: Tensor | None = None, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The plans that bring the same from each cell and the same to each class, most of it where scores are high.

    A problem that has ended is left as it is while the others go on. On a GPU the host asks every few rounds whether
    any does.

    Args:
        scores: float32 (P, N, M) of 0..1, of N classes in M cells.
        rule: of `recipe.TRANSPORT_RULES`, when rounds end.
        cells: bool (P, M), those that each problem has; None: all. classes: bool (P, N), alike.

    Returns:
        The plans, float32 (P, N, M), 0 where masked out, and the rounds that each took, int64 (P,).
    """
    cells = _all_of(scores, 2) if cells is None else cells
    classes = _all_of(scores, 1) if classes is None else classes
    kernel = ((scores - 1) / TEMPERATURE).exp() * (classes[..., None] & cells[:, None])
    cell_share = cells / cells.sum(1, keepdim=True).clamp(min=1)
    class_share = classes / classes.sum(1, keepdim=True).clamp(min=1)
    of_cell, of_class = torch.ones_like(cell_share), torch.ones_like(class_share)
    rounds = torch.zeros(len(scores), dtype=torch.int64, device=scores.device)
    going = torch.ones_like(rounds, dtype=torch.bool)
    for done in range(1, MOST_ROUNDS[rule] + 1):
        new_cell = _shared(cell_share, (of_class[:, None] @ kernel)[:, 0])
        new_class = _shared(class_share, (kernel @ new_cell[..., None])[..., 0])
        moved = (new_cell - of_cell).abs()
        if rule == "converged":
            moved = _shared(moved, of_cell)
        of_cell = torch.where(going[:, None], new_cell, of_cell)
        of_class = torch.where(going[:, None], new_class, of_class)
        rounds += going
        moved = (moved * cells).sum(1) / cells.sum(1).clamp(min=1)
        going = going & (moved >= TOLERANCES[rule])
        if (not scores.is_cuda or done % ROUNDS_BETWEEN_LOOKS == 0) and not going.any():
            break
    return of_class[..., None] * kernel * of_cell[:, None], rounds


def balanced(
    scores: Tensor, *, rule: str = "released", cells: Tensor | None = None, classes: Tensor | None = None
) -> Tensor:
    """OT(S): the plans of `transport` with each class's cells brought to 0..1 by their lowest and highest.

    Arguments as there; float32 (P, N, M), 0 where masked out.
    """
    plan, _ = transport(scores, rule=rule, cells=cells, classes=classes)
    return to_unit_range(plan, cells)


def to_unit_range(maps: Tensor, cells: Tensor | None = None) -> Tensor:
    """n: maps (..., N, M) of M cells brought to 0..1 by their lowest and highest; a constant one is 0.

    cells: bool (..., M), those that there are; the others become 0. None: all.
    """
    every = torch.ones(maps.shape[-1], dtype=torch.bool, device=maps.device)
    there = every if cells is None else cells[..., None, :]
    lowest = maps.masked_fill(~there, torch.inf).amin(-1, keepdim=True)
    spread = maps.masked_fill(~there, -torch.inf).amax(-1, keepdim=True) - lowest
    return torch.where(there, (maps - lowest) / spread.clamp(min=MIN_RANGE), 0)


def _all_of(scores: Tensor, axis: int) -> Tensor:
    return torch.ones(len(scores), scores.shape[axis], dtype=torch.bool, device=scores.device)


def _shared(share: Tensor, among: Tensor) -> Tensor:
    """`share` divided by `among`, 0 where there is nothing to share, as beyond a problem's cells."""
    return torch.where(among > 0, share / among, 0)


def balanced_each(problems: Sequence[Tensor], *, rule: str = "released") -> list[Tensor]:
    """OT(S) of each of several problems, all at once: maps (N, ...) of N classes, each with cells and classes of its
    own number, to 0..1."""
    if not problems:
        return []
    flat = [maps.flatten(1) for maps in problems]
    numbers = torch.tensor([maps.shape for maps in flat])
    most_classes, most_cells = numbers.amax(0).tolist()
    scores = flat[0].new_zeros(len(flat), most_classes, most_cells)
    for place, maps in zip(scores, flat, strict=True):
        place[: maps.shape[0], : maps.shape[1]] = maps
    classes, cells = (
        (torch.arange(most) < numbers[:, axis, None]).to(scores.device)
        for axis, most in enumerate((most_classes, most_cells))
    )
    found = balanced(scores, rule=rule, cells=cells, classes=classes)
    return [
        place[: maps.shape[0], : maps[0].numel()].view_as(maps) for place, maps in zip(found, problems, strict=True)
    ]
