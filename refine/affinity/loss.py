"""AffinityNet's loss (spec/ppc.md, AffinityNet)."""

import torch
from torch import Tensor

from refine.affinity.labels import PairLabels
from tool.distributed import sum_over_processes, world_size

EPSILON = 1e-5  # in logarithms, and beside the numbers of pairs
WEIGHTS = {"bg": 0.25, "fg": 0.25, "neg": 0.5}


def pair_losses(affinities: Tensor, labels: PairLabels) -> dict[str, Tensor]:
    """Scalars: bg, fg and neg, the means of -log of what each pair's affinity should be near, and `total`, their
    weighted sum; pairs/bg and so on, the numbers of pairs, without gradient.

    affinities: float32 (N, P) in (0, 1]. labels: of these pairs.

    Means are over the pairs of all processes. Each process returns its own pairs' share, so scaled that the mean over
    processes, which is what they train on, is that of the global batch.
    """
    alike, apart = -(affinities + EPSILON).log(), -(1 + EPSILON - affinities).log()
    costs = {"bg": alike, "fg": alike, "neg": apart}
    masks = dict(zip(costs, labels, strict=True))
    counts = sum_over_processes(torch.stack([mask.sum() for mask in masks.values()])).float()
    terms = {
        name: world_size() * torch.where(masks[name], costs[name], 0).sum() / (count + EPSILON)
        for name, count in zip(costs, counts, strict=True)
    }
    total = sum(WEIGHTS[name] * term for name, term in terms.items())
    return {**terms, "total": total, **{f"pairs/{name}": count for name, count in zip(costs, counts, strict=True)}}
