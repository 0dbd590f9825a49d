"""The best runs of `benchmark.systems`, chosen by other images than they are scored on: the best of a table was lucky.

In each of five ways the best label maps are chosen on four fifths of the images, and scored on the fifth that is left.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from benchmark.system_counts import CRF, Run
from benchmark.system_figures import Estimate, estimate, miou
from benchmark.system_refine import REFINEMENTS

FOLDS = 5
LABEL_MAPS = (CRF, *REFINEMENTS)  # what is chosen among: what a segmentation would learn from


class Choice(NamedTuple):
    """What was chosen, a run's name and the kind of its label maps, and in how many folds; the score of all fifths
    together, and of which seeds of training."""

    chosen: list[tuple[tuple[str, str], int]]
    score: Estimate
    seeds: list[int]


def fold_of(num_images: int) -> np.ndarray:
    """The fold of each image, int64 (N), always the same."""
    return np.random.default_rng(0).permutation(num_images) % FOLDS


def candidates_of(runs: Iterable[Run]) -> tuple[list[int], dict[tuple[str, str], np.ndarray]]:
    """The seeds that most runs have, and the counts, int64 (R, N, 3, L), of all label maps that are there for each."""
    found: dict[tuple[str, str], dict[int, np.ndarray]] = {}
    for run in runs:
        for kind in LABEL_MAPS:
            if kind in run.counts:
                found.setdefault((run.name, kind), {})[run.seed] = run.counts[kind]
    if not found:
        return [], {}
    seeds = max(Counter(tuple(sorted(by_seed)) for by_seed in found.values()).items(), key=lambda item: item[1])[0]
    whole = {name: by_seed for name, by_seed in found.items() if {*seeds} <= by_seed.keys()}
    return [*seeds], {name: np.stack([by_seed[seed] for seed in seeds]) for name, by_seed in whole.items()}


def choose(runs: Sequence[Run], labels: Sequence[int]) -> Choice | None:
    """The best label maps by folds: in each those with the highest mean over the seeds outside it. None where there are
    fewer than two to choose among, or fewer images than folds."""
    seeds, candidates = candidates_of(runs)
    num_images = next(iter(candidates.values())).shape[1] if candidates else 0
    if len(candidates) < 2 or num_images < FOLDS:
        return None
    folds, chosen = fold_of(num_images), Counter()
    scored = np.zeros_like(next(iter(candidates.values())))
    for fold in range(FOLDS):
        outside = {name: counts[:, folds != fold].sum(1) for name, counts in candidates.items()}
        best = max(outside, key=lambda name: miou(outside[name].swapaxes(0, 1), labels).mean())
        scored[:, folds == fold] = candidates[best][:, folds == fold]
        chosen[best] += 1
    return Choice(chosen.most_common(), estimate(scored, labels), seeds)
