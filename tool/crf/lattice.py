"""The permutohedral lattice: Gaussian filters in a few dimensions (Adams, Baek and Davis, Eurographics 2010).

It lies in the hyperplane of d + 1 coordinates that sum to 0. Its vertices have whole coordinates that leave the same
remainder, 0 to d, when divided by d + 1; the quotients, rounded down, are the vertex's cells. So the remainder and the
first d cells name a vertex. A simplex has one vertex of each remainder.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tool.crf.gather import Gather

KEY_BITS = 62
NO_VERTEX = 2**63 - 1  # after every key, and so far that no neighbour of it has one
INT32_ENTRIES = 2**31  # from there on indices take 64 bits


class GaussianFilter:
    """out[p] = sum over q of k(p, q) x[q], k nearly exp(-|f_p - f_q|^2 / 2), p itself included; not normalised.

    Points (P of them, d features each) are spread over the vertices of a simplex, vertices are blurred along the
    lattice's d + 1 directions, and points read them again. Vertices are found by sorting packed keys, so that all of it
    runs on the features' device, and nothing depends on an order of threads. No constant is copied to the device.

    Args:
        features: float32 (d, P), in standard deviations, of 0 to `largest` (d).
        num_groups: that many groups of points, that do not see each other.
        group_of: each point's group, int64 (P,); None: equally many points of each, one after the other.
        counted: whether the vertices are counted, which takes the fewest rows but makes the host wait for the device.
            Otherwise there are as many rows as there could be vertices.
        with_origin: whether each group has the vertices around features of 0 too, though no point may lie there.
        longest_sum: the most points that are spread over a vertex one after the other; more are summed in pieces.

    Raises:
        ValueError: features too far apart for a key of 62 bits.
    """

    def __init__(
        self,
        features: Tensor,
        *,
        largest: Sequence[float],
        num_groups: int = 1,
        group_of: Tensor | None = None,
        counted: bool,
        with_origin: bool = False,
        longest_sum: int | None = None,
    ) -> None:
        num_points = features.shape[1]
        layout = _key_layout(largest, num_groups)
        if with_origin:
            features = F.pad(features, (0, num_groups))
        cells, places, weights = _enclosing_simplex(features)
        keys = _vertex_keys(cells, places, layout)
        groups = layout.group * torch.arange(num_groups, dtype=keys.dtype, device=keys.device)
        if group_of is None:
            keys[:, :num_points].view(len(keys), num_groups, -1).add_(groups[:, None])
        else:
            keys[:, :num_points] += groups.index_select(0, group_of)
        if with_origin:
            keys[:, num_points:].add_(groups)
            weights[:, num_points:].zero_()
        self._index_vertices(keys, weights, num_points, counted, longest_sum)
        self._find_neighbours(layout)

    def _index_vertices(
        self, keys: Tensor, weights: Tensor, num_points: int, counted: bool, longest_sum: int | None
    ) -> None:
        """Number the distinct `keys` of simplices, and say how vertices exchange with the points, of which the first
        simplices are. `keys` and `weights`: (d + 1, P or more), a row for each remainder."""
        corners, simplices = keys.shape
        index = torch.int32 if keys.numel() < INT32_ENTRIES else torch.int64
        ordered, order = keys.flatten().sort(stable=True)
        is_first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=is_first[1:])
        starts = _positions(is_first, counted)
        # The last row is no vertex: 0 throughout, it stands for neighbours that are not there.
        ordered = ordered.long()
        self.vertices = torch.cat([ordered, ordered.new_full((1,), NO_VERTEX)]).index_select(0, starts)
        points = order.remainder(simplices).to(index)
        if simplices > num_points:
            points.clamp_(max=num_points - 1)
        self.spread = Gather(points, starts.to(index), weights.flatten().index_select(0, order))
        self.gather_pieces = None
        if longest_sum is not None:
            is_piece = is_first.clone()
            is_piece[::longest_sum].fill_(True)
            self.spread.starts = _positions(is_piece, counted).to(index)
            before = F.pad(is_piece.cumsum(0), (1, 0)).index_select(0, starts)
            pieces = torch.arange(len(self.spread.starts), device=keys.device)
            # Rows beyond the last vertex share those beyond the last piece, else one of them had all, one by one.
            self.gather_pieces = Gather(pieces.to(index), torch.maximum(before, pieces[: len(before)]).to(index))
        # Reading what spreading and blurring left; the factor makes the kernel's value at distance 0 nearly 1.
        number = is_first.cumsum(0, dtype=index).sub_(1)
        number = torch.empty_like(number).scatter_(0, order, number).view(corners, -1)
        weights = weights[:, :num_points] / (2.0**corners * (1 + 2.0 ** (1 - corners)))
        starts = torch.arange(0, weights.numel(), corners, dtype=index, device=keys.device)
        self.read = Gather(number[:, :num_points].T.flatten(), starts, weights.T.flatten())

    def _find_neighbours(self, layout: "_KeyLayout") -> None:
        """For each of the d + 1 directions: a vertex gathers itself twice, and once its neighbours that there are."""
        nothing = len(self.vertices) - 1
        corners = len(layout.strides) + 1
        numbers = torch.arange(nothing + 1, device=self.vertices.device)
        starts = (4 * numbers).to(self.spread.starts)
        # A step adds 1 to the remainder, after the last of which all cells begin anew, and takes 1 from one cell.
        onward = self.vertices + 1
        onward += (onward % corners == 0) * (sum(layout.strides) - corners)
        self.blurs = []
        for stride in (*layout.strides, 0):
            wanted = onward - stride
            ahead = torch.searchsorted(self.vertices, wanted).clamp_(max=nothing)
            ahead = torch.where(self.vertices.index_select(0, ahead) == wanted, ahead, nothing)
            behind = torch.full_like(ahead, nothing).scatter_(0, ahead, numbers)
            behind[-1:].fill_(nothing)
            sources = torch.stack([numbers, numbers, ahead, behind], dim=1)
            self.blurs.append(Gather(sources.flatten().to(starts), starts))

    def __call__(self, values: Tensor) -> Tensor:
        """`values`: float32 (P, C); returns the same shape."""
        values = self.spread(values)
        if self.gather_pieces is not None:
            values = self.gather_pieces(values)
        for blur in self.blurs:
            values = blur(values)
        return self.read(values)

    def normalise(self) -> None:
        """Divide the kernel by the square roots of its sums over either side: k(p, q) / sqrt(K_p K_q)."""
        ones = self.read.weights.new_ones(len(self.read.starts), 1)
        factors = (self(ones) + 1e-20).rsqrt()
        self.read.weights = (self.read.weights.view(len(factors), -1) * factors).flatten()
        self.spread.weights = self.spread.weights * factors.flatten().index_select(0, self.spread.sources)


class _KeyLayout(NamedTuple):
    """How keys are packed: the remainder, then the first d cells, each from its lowest, then the group."""

    lowest: tuple[int, ...]
    strides: tuple[int, ...]  # what a step from cell to cell adds
    group: int  # and from group to group
    dtype: torch.dtype


def _key_layout(largest: Sequence[float], num_groups: int) -> _KeyLayout:
    """Cells reach as far as features from 0 to `largest` elevate, and 3 more on either side, so that nothing wraps
    around: a simplex's first vertex is less than 1 away, its others and their neighbours 2 at most from there."""
    dims = len(largest)
    reach = [size * _scale(j, dims) / (dims + 1) for j, size in enumerate(largest, 1)]
    lowest = [math.floor(-j * reach[j - 1] if j else 0) - 3 for j in range(dims)]
    sizes = [math.ceil(sum(reach[j:])) + 4 - low for j, low in enumerate(lowest)]
    strides = [(dims + 1) * math.prod(sizes[:j]) for j in range(dims + 1)]
    bits = math.log2(num_groups * strides[-1])
    if bits >= KEY_BITS:
        raise ValueError(f"features too far apart, or too many groups, for keys of {KEY_BITS} bits")
    return _KeyLayout(tuple(lowest), tuple(strides[:-1]), strides[-1], torch.int32 if bits < 31 else torch.int64)


def _scale(j: int, dims: int) -> float:
    """Of feature j - 1, so that a standard deviation is one of the lattice's, whose blur is part of the kernel."""
    return math.sqrt(2 / 3) * (dims + 1) / math.sqrt(j * (j + 1))


def _elevate(features: Tensor) -> Tensor:
    """float32 (d, P) to (d + 1, P), the hyperplane's coordinates: j has -j times the scaled feature j - 1, and all from
    j on once."""
    elevated = features.new_empty(len(features) + 1, features.shape[1])
    after = torch.zeros_like(features[0])
    for j in range(len(features), 0, -1):
        scaled = features[j - 1] * _scale(j, len(features))
        torch.sub(after, scaled * j, out=elevated[j])
        after = after + scaled
    elevated[0] = after
    return elevated


def _enclosing_simplex(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex of each point.

    Returns:
        The cells of its vertex of remainder 0, float32 (d + 1, P); for each coordinate the place, in a flat (d + 1, P),
        of its offset from there when these are sorted descending, int64 (d + 1, P); and the point's barycentric
        coordinates, float32 (d + 1, P), by remainder.
    """
    corners, num_points = len(features) + 1, features.shape[1]
    elevated = _elevate(features)
    cells = (elevated / corners).round_()
    offsets = elevated.sub_(cells, alpha=corners)
    # Ranks as of a stable sort, by comparing. Rounded coordinates may sum to more or less than 0: some turn back.
    rank = cells.sum(dim=0).to(torch.int8) + torch.arange(corners, dtype=torch.int8, device=cells.device)[:, None]
    for i in range(corners):
        for j in range(i + 1, corners):
            less = (offsets[i] < offsets[j]).view(torch.int8)
            rank[i] += less
            rank[j] -= less
    turn = (rank < 0).view(torch.int8) - (rank >= corners).view(torch.int8)
    rank.add_(turn, alpha=corners)
    cells += turn
    shares = offsets.sub_(turn, alpha=corners).div_(corners)

    places = rank.long() * num_points + torch.arange(num_points, device=rank.device)
    ascending = (
        torch.empty_like(shares).view(-1).scatter_(0, places.view(-1), shares.view(-1)).view(corners, -1).flip(0)
    )
    weights = torch.empty_like(shares)
    torch.sub(ascending[1:], ascending[:-1], out=weights[1:])
    torch.sub(ascending[0] + 1, ascending[-1], out=weights[0])
    return cells, places, weights


def _vertex_keys(cells: Tensor, places: Tensor, layout: _KeyLayout) -> Tensor:
    """The packed keys (d + 1, P) of each simplex's vertices, by remainder."""
    keys = torch.empty_like(places, dtype=layout.dtype)
    keys[0].zero_()
    strides = torch.zeros_like(keys)  # sorted as the offsets are
    for k, (low, stride) in enumerate(zip(layout.lowest, layout.strides, strict=True)):
        keys[0].add_((cells[k] - low).to(keys), alpha=stride)
        strides.view(-1).scatter_(0, places[k], stride)
    # From vertex to vertex the remainder grows by 1; the coordinate of the next highest rank steps back a cell.
    for r in range(1, len(keys)):
        torch.sub(keys[r - 1] + 1, strides[-r], out=keys[r])
    return keys


def _positions(flags: Tensor, counted: bool) -> Tensor:
    """Where `flags` (N,) are true, int64, and N behind; without waiting N + 1 of them, N as often as is needed."""
    size = len(flags)
    if counted:
        return F.pad(flags.nonzero().flatten(), (0, 1), value=size)
    return torch.searchsorted(flags.cumsum(0), torch.arange(1, size + 2, device=flags.device))
