"""Labels of pairs of cells, and the loss of their affinities, AffinityNet's and IRN's (paper/method.md, AffinityNet
and IRN)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tool.dataset import IGNORE
from tool.distributed import sum_over_processes, world_size
from tool.pairs import Pairs

EPSILON = 1e-5  # in logarithms, and beside the numbers of pairs
WEIGHTS = {"bg": 0.25, "fg": 0.25, "neg": 0.5}
MEANING = {"bg": "both background", "fg": "of one class", "neg": "of different labels"}


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


def pair_losses(affinities: Tensor, labels: PairLabels) -> dict[str, Tensor]:
    """Scalars: bg, fg and neg, the means of -log of what each pair's affinity should be near, and `total`, their
    weighted sum; pairs/bg and so on, the numbers of pairs, without gradient.

    affinities: float32 (N, P) in [0, 1]. labels: of these pairs.

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


class PairsMet:
    """The pairs of each kind that the steps of a run met, added up on the device."""

    def __init__(self, device: torch.device) -> None:
        self.counts = torch.zeros(len(WEIGHTS), device=device)
        self.steps = 0

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """A step's, of `pair_losses`."""
        self.counts += torch.stack([losses[f"pairs/{name}"] for name in WEIGHTS])
        self.steps += 1

    def notes(self, source: str) -> list[str]:
        """A line for each kind that no step met, if there was a step; it waits for the device.

        source: of the labels, in words.
        """
        return [
            f"note: none of {self.steps} steps met near cells that are surely {MEANING[name]}, so the net learnt"
            f" nothing of such: look at {source}, or take a larger --crop_size or --batch_size"
            for name, count in zip(WEIGHTS, self.counts.tolist(), strict=True)
            if self.steps and count == 0
        ]
