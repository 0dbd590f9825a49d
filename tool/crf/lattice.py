"""The permutohedral lattice: Gaussian filters in a few dimensions (Adams, Baek and Davis, Eurographics 2010)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

KEY_BITS = 63


@dataclass
class _Gather:
    """out[i] = the sum of weights[k] x values[sources[k]] over k from starts[i] to the next start."""

    sources: Tensor
    starts: Tensor
    weights: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """`values`: (Q, C), to (number of starts, C)."""
        return F.embedding_bag(self.sources, values, self.starts, mode="sum", per_sample_weights=self.weights)


class GaussianFilter:
    """out[p] = sum over q of k(p, q) x[q], k nearly exp(-|f_p - f_q|^2 / 2), p itself included; not normalised.

    Points (P of them, d features each) are spread over the vertices of a simplex, vertices are blurred along the
    lattice's d + 1 directions, and points read them again. Vertices are found by sorting packed keys, so that all of it
    runs on the features' device, and nothing depends on an order of threads.

    Args:
        features: float32 (P, d), in standard deviations.
        groups: integers (P,), at least 0; points of different groups do not see each other. None: one group.

    Raises:
        ValueError: features too far apart for a key of 63 bits.
    """

    def __init__(self, features: Tensor, groups: Tensor | None = None) -> None:
        base, rank, weights = _enclosing_simplex(features)
        strides, group_stride = _key_strides(base, 1 if groups is None else int(groups.max()) + 1)
        keys = _vertex_keys(base, rank, strides)
        if groups is not None:
            keys += groups[:, None] * group_stride
        self._index_vertices(keys, weights)
        self._find_neighbours(strides)

    def _index_vertices(self, keys: Tensor, weights: Tensor) -> None:
        """Number the distinct `keys` (P, d + 1) of the points' simplices, and say how points and vertices exchange."""
        corners = keys.shape[1]
        ordered, order = keys.flatten().sort(stable=True)
        is_first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
        starts = is_first.nonzero().flatten()
        self.vertices = ordered[starts]
        numbers = torch.empty_like(order)
        numbers[order] = is_first.cumsum(0) - 1
        self.write = _Gather((order // corners).int(), starts.int(), weights.flatten()[order])
        # Reading what writing and blurring left; the factor makes the kernel's value at distance 0 nearly 1.
        starts = torch.arange(0, keys.numel(), corners, dtype=torch.int32, device=keys.device)
        self.read = _Gather(numbers.int(), starts.int(), weights.flatten() / (1 + 2.0 ** (1 - corners)))

    def _find_neighbours(self, strides: Tensor) -> None:
        """For each of the d + 1 directions: a vertex gathers itself, and half of its neighbours that there are."""
        count = len(self.vertices)
        numbers = torch.arange(count, device=strides.device)
        shares = torch.tensor([1, 0.5, 0.5], device=strides.device).expand(count, 3)
        # One step adds d to one coordinate and takes 1 from the others; the last coordinate is not in the key.
        steps = [(len(strides) + 1) * stride - strides.sum() for stride in strides] + [-strides.sum()]
        self.blurs = []
        for step in steps:
            wanted = self.vertices + step
            ahead = torch.searchsorted(self.vertices, wanted).clamp_(max=count - 1)
            ahead = torch.where(self.vertices[ahead] == wanted, ahead, count)
            behind = ahead.new_full((count + 1,), count)
            behind[ahead] = numbers
            sources = torch.stack([numbers, ahead, behind[:count]], dim=1)
            there = sources < count
            starts = there.sum(dim=1).cumsum(0) - there.sum(dim=1)
            self.blurs.append(_Gather(sources[there].int(), starts.int(), shares[there]))

    def __call__(self, values: Tensor) -> Tensor:
        """`values`: float32 (P, C); returns the same shape."""
        values = self.write(values)
        for blur in self.blurs:
            values = blur(values)
        return self.read(values)

    def normalise(self) -> None:
        """Divide the kernel by the square roots of its sums over either side: k(p, q) / sqrt(K_p K_q)."""
        ones = torch.ones(len(self.read.starts), 1, device=self.vertices.device)
        factors = (self(ones) + 1e-20).rsqrt().flatten()
        corners = len(self.read.sources) // len(factors)
        self.read.weights = self.read.weights * factors.repeat_interleave(corners)
        self.write.weights = self.write.weights * factors[self.write.sources]


def _enclosing_simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex of each point in the lattice's hyperplane of d + 1 coordinates.

    Returns:
        Its vertex of remainder 0, int64 (P, d + 1); the ranks of the point's offsets from there, descending,
        int64 (P, d + 1); and the point's barycentric coordinates, float32 (P, d + 1), by remainder.
    """
    dims = features.shape[1]
    scales = [math.sqrt(2 / 3) * (dims + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(dims)]
    # Columns of a triangular basis of the hyperplane: coordinate j has -j times feature j - 1, and all features from j.
    basis = torch.ones(dims + 1, dims).triu() - torch.diag_embed(torch.arange(1.0, dims + 1), offset=-1)[:, :dims]
    elevated = features @ (basis * torch.tensor(scales)).T.to(features)

    base = (elevated / (dims + 1)).round_()
    excess = base.sum(dim=1, keepdim=True).long()
    base = base.long() * (dims + 1)
    offsets = elevated - base
    rank = offsets.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + excess
    turn = (rank < 0).long() - (rank > dims).long()
    rank += turn * (dims + 1)
    base += turn * (dims + 1)

    shares = (elevated - base) / (dims + 1)
    weights = shares.new_zeros(len(shares), dims + 2)
    weights.scatter_add_(1, dims - rank, shares)
    weights.scatter_add_(1, dims + 1 - rank, -shares)
    weights[:, 0] += 1 + weights[:, dims + 1]
    return base, rank, weights[:, : dims + 1].contiguous()


def _key_strides(base: Tensor, groups: int) -> tuple[Tensor, int]:
    """What a step along each of the first d coordinates adds to a packed key, int64 (d,), and a step to the next group.

    The coordinates sum to 0, so that the last one tells nothing. A key's coordinates, and those of its neighbours, lie
    within d + 1 of `base`, each: nothing wraps around.
    """
    margin = 2 * base.shape[1]
    sizes = (base[:, :-1].amax(dim=0) - base[:, :-1].amin(dim=0) + 2 * margin).tolist()
    strides = [math.prod(sizes[:i]) for i in range(len(sizes))]
    if groups * math.prod(sizes) >= 2**KEY_BITS:
        raise ValueError(f"features too far apart, or too many groups, for keys of {KEY_BITS} bits")
    return torch.tensor(strides, device=base.device), math.prod(sizes)


def _vertex_keys(base: Tensor, rank: Tensor, strides: Tensor) -> Tensor:
    """The packed keys, int64 (P, d + 1), of each simplex's vertices by remainder."""
    corners = base.shape[1]
    lowest = ((base[:, :-1] - base[:, :-1].amin(dim=0)) * strides).sum(dim=1)
    keys = []
    for remainder in range(corners):
        # The coordinates of the highest ranks are those that step back.
        step = remainder - corners * (rank[:, :-1] >= corners - remainder).long()
        keys.append(lowest + (step * strides).sum(dim=1))
    return torch.stack(keys, dim=1)
