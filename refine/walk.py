"""A random walk from cell to near cell of a grid, as far as the cells are alike (paper/method.md, AffinityNet;
IRN's, too).

A is symmetric, 1 on its diagonal, and has a pair's affinity for its two cells, else 0. T = A^beta, element by element,
each column divided by its sum. Scores walk by S T^n, S with a row a class. A cell has at most 68 neighbours, so n
sparse products of the few classes that an image has replace the squarings of a full matrix: for an image of 500 x 375
pixels a thousandth of the arithmetic.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from tool.pairs import Pairs

KEPT_CELLS = 2**15  # of a grid whose structure is kept: some 25 MB


def structure(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A's sparse rows (CSR), which are its columns too: where each begins, int32 (h w + 1); the cells of its entries,
    int32; and where an entry's value stands in the pairs' affinities with a 1 behind them, int64. Kept for the images
    that follow, if it is not large."""
    return (_structure if pairs.height * pairs.width <= KEPT_CELLS else _structure.__wrapped__)(pairs)


@lru_cache(maxsize=16)
def _structure(pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, second = pairs.index
    cells, numbers = np.arange(pairs.height * pairs.width), np.arange(len(pairs))
    row, column = np.concatenate([first, second, cells]), np.concatenate([second, first, cells])
    source = np.concatenate([numbers, numbers, np.full_like(cells, len(pairs))])
    entries = sparse.coo_array((source, (row, column)), shape=(len(cells), len(cells))).tocsr()
    return entries.indptr.astype(np.int32), entries.indices.astype(np.int32), entries.data


def random_walk(scores: Tensor, affinities: Tensor, pairs: Pairs, *, beta: float, steps: int) -> Tensor:
    """Scores after `steps` of the walk, float32 (K, h, w), from `scores` (K, h, w) of any K.

    affinities: (P), of `pairs` of the grid, in 0..1, on the same device.
    """
    source = torch.from_numpy(structure(pairs)[2]).to(affinities.device)
    weights = torch.cat([affinities.float() ** beta, affinities.new_ones(1).float()])[source]
    # A is symmetric: a column of T is a row of A^beta by its own sum, and S T its product with S's transpose.
    multiply = walked_by_scipy if scores.device.type == "cpu" else walked_by_torch
    walked = multiply(weights, pairs, scores.float().flatten(1).T.contiguous(), steps)
    return walked.T.reshape(scores.shape)


def walked_by_scipy(weights: Tensor, pairs: Pairs, values: Tensor, steps: int) -> Tensor:
    """`values`, (h w, K), after as many products with A^beta, of which `weights` are the entries, its rows by their
    sums; on a CPU. In float64, which takes no longer here: in float32 256 steps are up to 4e-5 of the maximum off."""
    begins, cells, _ = structure(pairs)
    matrix = sparse.csr_array((weights.double().numpy(), cells, begins), shape=(len(values), len(values)))
    sums, walked = np.asarray(matrix.sum(axis=1))[:, None], values.double().numpy()
    for _ in range(steps):
        walked = matrix @ walked / sums
    return torch.from_numpy(walked).float()


def walked_by_torch(weights: Tensor, pairs: Pairs, values: Tensor, steps: int) -> Tensor:
    """The same on a GPU, by sparse products too: the squarings of a full matrix are 2,000 times the arithmetic (by
    reasoning, not measured)."""
    begins, cells = (torch.from_numpy(part).to(weights.device) for part in structure(pairs)[:2])

    def product(table: Tensor) -> Tensor:
        return F.embedding_bag(cells, table, begins[:-1], mode="sum", per_sample_weights=weights)

    sums = product(torch.ones_like(values[:, :1]))
    for _ in range(steps):
        values = product(values) / sums
    return values
