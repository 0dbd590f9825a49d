"""The permutohedral lattice: Gaussian filters in a few dimensions (Adams, Baek and Davis, Eurographics 2010)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

KEY_BITS = 62
NO_VERTEX = 2**KEY_BITS  # after every key


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
        features: float32 (P, d), in standard deviations, of 0 to `largest` (d).
        groups: integers (P,) from 0 to `num_groups` - 1; points of different groups do not see each other.
        counted: whether the vertices are counted, which takes the fewest rows but makes the host wait for the device.
            Otherwise there are as many rows as there could be vertices.
        with_origin: whether each group has the vertices around features of 0 too, though no point may lie there.

    Raises:
        ValueError: features too far apart for a key of 62 bits.
    """

    def __init__(
        self,
        features: Tensor,
        *,
        largest: Sequence[float],
        groups: Tensor,
        num_groups: int,
        counted: bool,
        with_origin: bool = False,
    ) -> None:
        basis = _hyperplane_basis(len(largest))
        lowest, strides, group_stride = _key_layout(basis, largest, num_groups)

        def on_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(features.device, non_blocking=True)

        num_points = len(features)
        if with_origin:
            features = torch.cat([features, features.new_zeros(num_groups, len(largest))])
            groups = torch.cat([groups, torch.arange(num_groups, device=groups.device)])
        base, rank, weights = _enclosing_simplex(features, on_device(basis))
        keys = _vertex_keys(base[:, :-1] - on_device(lowest), rank, on_device(strides))
        self._index_vertices(keys + groups[:, None] * group_stride, weights[:num_points], counted)
        self._find_neighbours(strides.tolist())

    def _index_vertices(self, keys: Tensor, weights: Tensor, counted: bool) -> None:
        """Number the distinct `keys` (P or more, d + 1) of simplices, and say how vertices exchange with the points, of
        which the first P simplices are; `weights` (P, d + 1)."""
        num_points, corners = weights.shape
        ordered, order = keys.flatten().sort(stable=True)
        is_first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
        number = is_first.cumsum(0) - 1
        count = int(number[-1]) + 1 if counted else len(number)
        self.vertices = ordered.new_full((count,), NO_VERTEX).scatter_(0, number, ordered)
        starts = torch.searchsorted(number, torch.arange(count, device=keys.device))
        points = order // corners
        is_point = points < num_points
        points = torch.where(is_point, points, 0)
        shares = weights.flatten()[torch.where(is_point, order, 0)] * is_point
        self.write = _Gather(points.int(), starts.int(), shares)
        # Reading what writing and blurring left; the factor makes the kernel's value at distance 0 nearly 1.
        starts = torch.arange(0, weights.numel(), corners, dtype=torch.int32, device=keys.device)
        numbers = torch.empty_like(order).scatter_(0, order, number)[: weights.numel()]
        self.read = _Gather(numbers.int(), starts.int(), weights.flatten() / (1 + 2.0 ** (1 - corners)))

    def _find_neighbours(self, strides: list[int]) -> None:
        """For each of the d + 1 directions: a vertex gathers itself, and half of its neighbours that there are."""
        count = len(self.vertices)
        numbers = torch.arange(count, device=self.vertices.device)
        starts = (3 * numbers).int()
        # One step adds d to one coordinate and takes 1 from the others; the last coordinate is not in the key.
        steps = [(len(strides) + 1) * stride - sum(strides) for stride in strides] + [-sum(strides)]
        self.blurs = []
        for step in steps:
            wanted = self.vertices + step
            ahead = torch.searchsorted(self.vertices, wanted).clamp_(max=count - 1)
            ahead = torch.where(self.vertices[ahead] == wanted, ahead, count)
            behind = ahead.new_full((count + 1,), count).scatter_(0, ahead, numbers)[:count]
            neighbours = torch.stack([ahead, behind], dim=1)
            is_there = neighbours < count
            # One that is not there is the first vertex, times nothing.
            sources = torch.cat([numbers[:, None], torch.where(is_there, neighbours, 0)], dim=1)
            shares = torch.cat([torch.ones_like(is_there[:, :1]), is_there * 0.5], dim=1)
            self.blurs.append(_Gather(sources.flatten().int(), starts, shares.flatten()))

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


def _hyperplane_basis(dims: int) -> np.ndarray:
    """What each feature adds to each of the hyperplane's coordinates, float32 (d + 1, d): scaled columns of a
    triangular basis, in which coordinate j has -j times feature j - 1, and all features from j."""
    index = np.arange(dims)
    scales = np.sqrt(2 / 3) * (dims + 1) / np.sqrt((index + 1) * (index + 2))
    basis = np.triu(np.ones((dims + 1, dims)))
    basis[index + 1, index] = -(index + 1)
    return (basis * scales).astype(np.float32)


def _enclosing_simplex(features: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex of each point in the lattice's hyperplane of d + 1 coordinates.

    Returns:
        Its vertex of remainder 0, int64 (P, d + 1); the ranks of the point's offsets from there, descending,
        int64 (P, d + 1); and the point's barycentric coordinates, float32 (P, d + 1), by remainder.
    """
    dims = features.shape[1]
    elevated = (features.double() @ basis.double().T).float()  # float32's product is a rounder one on some GPUs (TF32)
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


def _key_layout(basis: np.ndarray, largest: Sequence[float], groups: int) -> tuple[np.ndarray, np.ndarray, int]:
    """How keys are packed: the least coordinates, what a step along each of the first d adds to a key, both int64 (d,),
    and a step to the next group.

    The coordinates sum to 0, so that the last one tells nothing. Nothing wraps around: a simplex lies within 2 (d + 1)
    of its point, its vertices and their neighbours within d + 1 of its first.
    """
    margin = 4 * len(basis)
    reach = basis[:-1] * np.asarray(largest)
    lowest = np.floor(reach.clip(max=0).sum(axis=1)).astype(np.int64) - margin
    sizes = (np.ceil(reach.clip(min=0).sum(axis=1)).astype(np.int64) + margin + 1 - lowest).tolist()
    if groups * math.prod(sizes) >= NO_VERTEX:
        raise ValueError(f"features too far apart, or too many groups, for keys of {KEY_BITS} bits")
    return lowest, np.array([math.prod(sizes[:i]) for i in range(len(sizes))]), math.prod(sizes)


def _vertex_keys(base: Tensor, rank: Tensor, strides: Tensor) -> Tensor:
    """The packed keys, int64 (P, d + 1), of each simplex's vertices by remainder; `base` (P, d), from the least on."""
    corners = rank.shape[1]
    first = (base * strides).sum(dim=1)
    keys = []
    for remainder in range(corners):
        # The coordinates of the highest ranks are those that step back.
        step = remainder - corners * (rank[:, :-1] >= corners - remainder).long()
        keys.append(first + (step * strides).sum(dim=1))
    return torch.stack(keys, dim=1)
