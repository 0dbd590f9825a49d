"""The permutohedral lattice filters as the algorithm's plain form does, vertex by vertex in a dictionary."""

import math

import numpy as np
import pytest
import torch

from tool.crf import lattice
from tool.crf.lattice import GaussianFilter


def plain_simplex(feature: np.ndarray) -> dict[tuple[int, ...], float]:
    """The vertices around one point of d features, each with the point's weight there."""
    dims = len(feature)
    corners = dims + 1
    elevated = np.zeros(corners)
    for j, value in enumerate(feature, 1):
        scaled = value * math.sqrt(2 / 3) * corners / math.sqrt(j * (j + 1))
        elevated[:j] += scaled
        elevated[j] -= j * scaled
    first = np.round(elevated / corners).astype(int) * corners
    excess = first.sum() // corners
    rank = np.empty(corners, int)
    rank[np.argsort(-(elevated - first), kind="stable")] = np.arange(corners)
    for j in range(corners):
        rank[j] += excess
        turn = corners if rank[j] < 0 else -corners if rank[j] > dims else 0
        rank[j] += turn
        first[j] += turn
    shares = np.empty(corners)
    shares[rank] = (elevated - first) / corners  # descending
    vertices = {}
    for remainder in range(corners):
        vertex = first + remainder - corners * (rank >= corners - remainder)
        weight = shares[dims - remainder] - shares[corners - remainder] if remainder else 1 + shares[-1] - shares[0]
        vertices[tuple(vertex.tolist())] = weight
    return vertices


def plain_filter(features: np.ndarray, values: np.ndarray, *, with_origin: bool = False) -> np.ndarray:
    """`features` (P, d), `values` (P, C)."""
    corners = features.shape[1] + 1
    simplices = [plain_simplex(feature) for feature in features]
    origin = [plain_simplex(np.zeros(corners - 1))] if with_origin else []
    table = {vertex: np.zeros(values.shape[1]) for simplex in simplices + origin for vertex in simplex}
    for simplex, value in zip(simplices, values, strict=True):
        for vertex, weight in simplex.items():
            table[vertex] += weight * value
    for direction in range(corners):
        step = np.ones(corners, int)
        step[direction] -= corners
        table = {
            vertex: value
            + sum(0.5 * table.get(tuple((np.array(vertex) + sign * step).tolist()), 0) for sign in (1, -1))
            for vertex, value in table.items()
        }
    found = [sum(weight * table[vertex] for vertex, weight in simplex.items()) for simplex in simplices]
    return np.array(found) / (1 + 2.0 ** (1 - corners))


def filter_of(features: np.ndarray, *, counted: bool = True, **options) -> GaussianFilter:
    largest = features.max(axis=0).tolist()
    return GaussianFilter(torch.tensor(features.T.copy()), largest=largest, counted=counted, **options)


def some_features(dims: int, *, leading_zeros: int = 0, count: int = 120) -> np.ndarray:
    features = np.random.default_rng(dims).random((count, dims), dtype=np.float32) * 4
    features[:, :leading_zeros] = 0
    return features


def some_values(count: int = 120) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((count, 3), dtype=np.float32))


# Features that begin with zeros have coordinates that tie, and all zeros lie on a vertex: which of the vertices there
# are taken, at a weight of 0, decides what the blur passes on.
@pytest.mark.parametrize(
    "dims, leading_zeros", [(1, 0), (2, 0), (2, 1), (2, 2), (3, 0), (5, 0), (5, 2), (5, 4), (5, 5)]
)
@pytest.mark.parametrize("with_origin", [False, True])
def test_the_filter_is_the_plain_one(dims, leading_zeros, with_origin):
    features, values = some_features(dims, leading_zeros=leading_zeros), some_values()
    expected = plain_filter(features, values.numpy(), with_origin=with_origin)
    found = filter_of(features, with_origin=with_origin)(values)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_the_origin_s_vertices_decide():
    features = some_features(2) + 0.5
    alone, with_origin = (plain_filter(features, some_values().numpy(), with_origin=there) for there in (False, True))
    assert np.abs(alone - with_origin).max() > 1e-3


@pytest.mark.parametrize("with_origin", [False, True])
def test_groups_do_not_see_each_other(with_origin):
    features, values = some_features(5), some_values()
    together = filter_of(features, num_groups=3, with_origin=with_origin)(values).numpy()
    alone = [
        plain_filter(*pair, with_origin=with_origin)
        for pair in zip(np.split(features, 3), np.split(values.numpy(), 3), strict=True)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-4)


def test_groups_of_unequal_sizes_do_not_see_each_other_wherever_their_points_stand():
    features, values = some_features(5), some_values()
    group_of = np.arange(len(features)) ** 2 % 7 % 3
    together = filter_of(features, num_groups=3, group_of=torch.from_numpy(group_of))(values).numpy()
    for number in range(3):
        chosen = group_of == number
        expected = plain_filter(features[chosen], values.numpy()[chosen])
        np.testing.assert_allclose(together[chosen], expected, rtol=1e-4)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("with_origin", [False, True])
@pytest.mark.parametrize("longest_sum", [1, 4, 7, 1000])
def test_sums_in_pieces_are_the_sums(longest_sum, counted, with_origin):
    """As on a GPU, where one long sum after the other would be slow; and no piece is longer than it may be."""
    features, values = some_features(2, count=400) / 4, some_values(400)  # a vertex for many points
    expected = plain_filter(features, values.numpy(), with_origin=with_origin)
    kernel = filter_of(features, counted=counted, with_origin=with_origin, longest_sum=longest_sum)
    np.testing.assert_allclose(kernel(values).numpy(), expected, rtol=1e-4)
    (spread, pieces) = (
        torch.diff(gather.starts, append=torch.tensor([len(gather.sources)]))
        for gather in (kernel.spread, kernel.gather_pieces)
    )
    assert spread.max() == min(longest_sum, filter_of(features, with_origin=with_origin).spread.starts.diff().max())
    assert pieces.max() <= max(2, math.ceil(400 / longest_sum) + 1)


@pytest.mark.parametrize("dims", [2, 5])
@pytest.mark.parametrize("longest_sum", [None, 4])
def test_rows_for_vertices_that_are_not_there_change_nothing(dims, longest_sum):
    """As on a GPU, where nobody waits to hear how many there are."""
    features, values = some_features(dims), some_values()
    counted, all_rows = (filter_of(features, counted=counted, longest_sum=longest_sum) for counted in (True, False))
    assert len(all_rows.vertices) == 120 * (dims + 1) + 1 > len(counted.vertices)
    for kernel in (counted, all_rows):
        kernel.normalise()
    assert torch.equal(counted(values), all_rows(values))


def test_a_normalised_filter_is_divided_by_the_roots_of_its_sums():
    features, values = some_features(5), some_values()
    plain, normalised = filter_of(features), filter_of(features)
    normalised.normalise()
    factors = plain(torch.ones(120, 1)).rsqrt()
    torch.testing.assert_close(normalised(values), plain(values * factors) * factors, rtol=1e-5, atol=0)


def test_the_filter_is_nearly_a_gaussian_one():
    """Against the exact sum over all pairs: within its 10 % or so in the plane, the points themselves included."""
    rows, columns = np.mgrid[:24, :31].astype(np.float32)
    features = np.stack([columns, rows], -1).reshape(-1, 2) / 3
    values = np.random.default_rng(0).random((len(features), 3), dtype=np.float32)
    exact = np.exp(-0.5 * np.square(features[:, None] - features).sum(-1)) @ values
    found = filter_of(features)(torch.from_numpy(values)).numpy()
    assert np.abs(found - exact).mean() / exact.mean() < 0.15


@pytest.mark.parametrize("size, bits", [(1, 32), (30, 32), (300, 64), (1000, 64)])
def test_keys_of_32_and_of_64_bits_name_vertices_alike(size, bits):
    """Points at the ends of what the keys were laid out for, where cells could wrap around."""
    generator = np.random.default_rng(0)
    features = (generator.integers(0, 2, (60, 5)) * (size - 1) + generator.random((60, 5))).astype(np.float32)
    features[0], features[1] = 0, size
    kernel, values = filter_of(features), some_values(60)
    assert (kernel.vertices[-2] >= 2**31) == (bits == 64)
    np.testing.assert_allclose(kernel(values).numpy(), plain_filter(features, values.numpy()), rtol=2e-3)


def test_features_that_no_key_holds_are_refused():
    with pytest.raises(ValueError, match="62 bits"):
        filter_of(np.random.default_rng(0).random((10, 5), dtype=np.float32) * 1e5)


def test_more_entries_than_32_bits_count_are_numbered_in_64(monkeypatch):
    features, values = some_features(2), some_values()
    monkeypatch.setattr(lattice, "INT32_ENTRIES", 10)
    kernel = filter_of(features, longest_sum=4)
    tables = [kernel.spread, kernel.gather_pieces, kernel.read, *kernel.blurs]
    assert {table.sources.dtype for table in tables} == {table.starts.dtype for table in tables} == {torch.int64}
    np.testing.assert_allclose(kernel(values).numpy(), plain_filter(features, values.numpy()), rtol=1e-4)
