"""Pairs of near cells: the published geometry, small grids, and any two near cells."""

import numpy as np
import pytest

from tool.pairs import Pairs, pairs_of

# The largest grid of the golden numbers, and one whose radius is smaller.
GOLDEN = {(20, 20): "", (8, 11): "_small"}


@pytest.mark.golden
@pytest.mark.parametrize("size", GOLDEN)
def test_pairs_are_the_golden_ones(golden, size):
    expected = np.load(golden / "ppc" / "affinity.npz")
    first, second = pairs_of(*size).index
    of_offset = len(pairs_of(*size).offsets)
    assert (first.reshape(of_offset, -1) == expected[f"index_from{GOLDEN[size]}"]).all()
    assert (second.reshape(of_offset, -1) == expected[f"index_to{GOLDEN[size]}"]).all()


def near(size, radius):
    """Any two cells of a grid nearer than `radius`, once each, as plain loops find them."""
    cells = [(y, x) for y in range(size[0]) for x in range(size[1])]
    number = {cell: n for n, cell in enumerate(cells)}
    return {
        (number[one], number[other])
        for one in cells
        for other in cells
        if number[one] < number[other] and (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 < radius**2
    }


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (7, 12), (9, 3)])
def test_everywhere_means_any_two_near_cells_once(size):
    pairs = pairs_of(*size, everywhere=True)
    found = list(zip(*pairs.index.tolist(), strict=True))
    assert len(found) == len(set(found)) == len(pairs)
    assert set(found) == near(size, 5)


def test_by_default_no_pair_starts_near_the_left_right_or_lower_border():
    pairs = pairs_of(12, 15)
    found = set(zip(*pairs.index.tolist(), strict=True))
    everywhere = near((12, 15), 5)
    assert found == {(a, b) for a, b in everywhere if a // 15 <= 12 - 5 and 4 <= a % 15 <= 15 - 5}
    assert len(found) == 34 * 8 * 7


@pytest.mark.parametrize(
    ("size", "radius", "number"),
    [((11, 11), 5, 34 * 7 * 3), ((10, 30), 4, 21 * 7 * 24), ((5, 5), 2, 12), ((4, 50), 1, 0)],
)
def test_small_grids_have_a_smaller_radius_and_below_5_cells_no_pairs(size, radius, number):
    pairs = pairs_of(*size)
    assert pairs.radius == radius
    assert pairs.index.shape == (2, len(pairs))
    if number in (0, 34 * 7 * 3):
        assert len(pairs) == number
    assert len(pairs) == len(pairs.offsets) * max(size[0] - radius + 1, 0) * max(size[1] - 2 * radius + 2, 0)


def test_equal_grids_are_one_key():
    assert Pairs(3, 4, 2) == Pairs(3, 4, 2) and hash(Pairs(3, 4, 2)) == hash(Pairs(3, 4, 2))


@pytest.mark.golden
@pytest.mark.parametrize("radius", [5, 10])
def test_irns_pairs_and_their_paths_are_the_golden_ones(golden, radius):
    expected = np.load(golden / "crt" / "irn.npz")
    pairs = pairs_of(24, 40, radius=radius)
    first, second = pairs.index.reshape(2, len(pairs.offsets), -1)
    assert (first == expected[f"from_{radius}"]).all()
    ours = dict(zip(pairs.offsets, zip(second.sum(axis=1), pairs.paths, strict=True), strict=True))
    released = [tuple(offset) for offset in expected[f"destinations_{radius}"].tolist()]
    assert {*released} == {*pairs.offsets}
    assert [ours[offset][0] for offset in released] == expected[f"to_{radius}_sum"].tolist()
    lengths = expected[f"path_lengths_{radius}"]
    assert [len(ours[offset][1]) for offset in released] == lengths.tolist()
    if radius == 5:
        points = np.split(expected["paths_5"], lengths.cumsum()[:-1])
        assert [ours[offset][1] for offset in released] == [sorted(map(tuple, path.tolist())) for path in points]


def test_what_is_just_a_cell_away_from_the_straight_line_is_not_on_the_path():
    pairs = pairs_of(24, 24, radius=10)
    paths = dict(zip(pairs.offsets, pairs.paths, strict=True))
    assert paths[0, 3] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert paths[1, -1] == [(0, -1), (0, 0), (1, -1), (1, 0)]
    assert (1, 2) in paths[3, 4] and (1, 3) not in paths[3, 4]  # at 2 / 5 of a cell, and at exactly one
