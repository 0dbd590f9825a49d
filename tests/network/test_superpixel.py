"""Pool, up, affinity, walk and hard maps: the golden numbers, and loops over pixels written from the definitions."""

import numpy as np
import pytest
import torch

from network.superpixel import affinity, hard_map, pool, step, up, walk
from tests.golden_inputs import assert_golden, rnd

SLICED = np.s_[:, :, ::7, ::7]


def soft(seed: int, *shape: int) -> torch.Tensor:
    return torch.softmax(2 * rnd(seed, *shape), dim=1)


@pytest.fixture(scope="module")
def numbers(golden, msa_meta, golden_device):
    """The golden arrays, and the inputs f, Q and g."""
    height, width = msa_meta["operator_size"]
    seed = msa_meta["seed"]
    inputs = rnd(seed + 11, 2, 5, height, width), soft(seed + 10, 2, 9, height, width)
    inputs = [*inputs, rnd(seed + 12, 2, 4, height // 16, width // 16)]
    return np.load(golden / "msa" / "superpixel.npz"), [value.to(golden_device) for value in inputs]


def with_gradients(function, *inputs):
    """The result, and the gradients of its sum of squares."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    result = function(*inputs)
    return result.detach(), torch.autograd.grad(result.square().sum(), inputs)


@pytest.mark.golden
def test_golden_pool_and_up_with_their_gradients(numbers):
    expected, (features, association, values) = numbers
    pooled, (of_features, of_association) = with_gradients(pool, features, association)
    assert_golden(pooled, expected["pool"])
    assert_golden(of_features[SLICED], expected["pool_grad_f"])
    assert_golden(of_association[SLICED], expected["pool_grad_q"])
    spread, (of_values, of_association) = with_gradients(up, values, association)
    assert_golden(spread[SLICED], expected["up"])
    assert_golden(of_values, expected["up_grad_h"])
    assert_golden(of_association[SLICED], expected["up_grad_q"])


@pytest.mark.golden
def test_golden_affinity_and_walks(numbers, msa_meta):
    expected, (features, association, values) = numbers
    shares = affinity(association)
    assert_golden(shares, expected["affinity"])
    assert_golden(step(values, shares), expected["affinity_step"])
    assert_golden(walk(features, association, 20)[SLICED], expected["walk_19"])
    assert_golden(walk(features, association, 1)[SLICED], expected["walk_0"])
    assert walk(features, association, 0) is features
    seed = msa_meta["seed"]
    assert_golden(up(rnd(seed + 14, 2, 6, 12, 14), soft(seed + 13, 2, 9, 12, 14), 1), expected["reconstruct"])


@pytest.mark.golden
def test_golden_hard_map_clamps_at_the_border(golden):
    expected = np.load(golden / "msa" / "scn.npz")["cell_index"]
    height, width = expected.shape[1:]
    for channel, cells in enumerate(expected):
        association = torch.zeros(1, 9, 16 * height, 16 * width)
        association[:, channel] = 1
        assert (hard_map(association)[0, ::16, ::16].numpy() == cells).all()


# -- by the definitions ------------------------------------------------------------------------------------------------


def cells_of(association, size):
    """Every pixel and the cells that its channels name: (n, y, x, k, row, column), those outside left out."""
    images, _, height, width = association.shape
    for n, y, x in np.ndindex(images, height, width):
        for k in range(9):
            row, column = y // size + k // 3 - 1, x // size + k % 3 - 1
            if 0 <= row < height // size and 0 <= column < width // size:
                yield n, y, x, k, row, column


def naive_pool(features, association, size):
    images, channels, height, width = features.shape
    sums = torch.zeros(images, channels, height // size, width // size, dtype=features.dtype)
    weights = torch.zeros(images, 1, height // size, width // size, dtype=features.dtype)
    for n, y, x, k, row, column in cells_of(association, size):
        sums[n, :, row, column] += association[n, k, y, x] * features[n, :, y, x]
        weights[n, :, row, column] += association[n, k, y, x]
    return sums / (weights + 1e-8 * size**2)


def naive_up(values, association, size):
    result = torch.zeros(len(values), values.shape[1], *association.shape[2:], dtype=values.dtype)
    for n, y, x, k, row, column in cells_of(association, size):
        result[n, :, y, x] += association[n, k, y, x] * values[n, :, row, column]
    return result


@pytest.mark.parametrize(("grid", "size"), [((2, 3), 2), ((1, 1), 3), ((4, 3), 1)])
def test_pool_and_up_are_those_of_a_loop_over_the_pixels(grid, size):
    sides = [size * side for side in grid]
    features, association, values = rnd(1, 2, 3, *sides), soft(2, 2, 9, *sides), rnd(3, 2, 3, *grid)
    for fast, naive, first in ((pool, naive_pool, features), (up, naive_up, values)):
        found, gradients = with_gradients(lambda *both, of=fast: of(*both, size), first, association)
        expected, expected_gradients = with_gradients(lambda *both, of=naive: of(*both, size), first, association)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        for one, other in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("grid", [(3, 4), (1, 2), (6, 5)])
def test_affinity_is_what_up_and_pool_make_of_one_cell(grid):
    association = soft(4, 1, 9, *(2 * side for side in grid))
    shares = affinity(association, 2)
    for row, column in np.ndindex(*grid):
        alone = torch.zeros(1, 1, *grid)
        alone[..., row, column] = 1
        expected = pool(up(alone, association, 2), association, 2)[0, 0]
        found = torch.zeros(grid)
        for k in range(25):
            y, x = row - (k // 5 - 2), column - (k % 5 - 2)
            if 0 <= y < grid[0] and 0 <= x < grid[1]:
                found[y, x] = shares[0, k, y, x]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    # What is outside the grid has no share; nothing else was left out above.
    assert torch.count_nonzero(shares) == sum(
        0 <= y + k // 5 - 2 < grid[0] and 0 <= x + k % 5 - 2 < grid[1] for y, x, k in np.ndindex(*grid, 25)
    )


def test_a_step_has_the_gradients_of_a_loop():
    values, shares = rnd(5, 1, 2, 4, 3).double(), rnd(6, 1, 25, 4, 3).double()
    assert torch.autograd.gradcheck(step, (values.requires_grad_(), shares.requires_grad_()), fast_mode=True)


def test_half_precision_is_pooled_in_float32_also_under_autocast():
    features, association = rnd(7, 1, 2, 32, 32), soft(8, 1, 9, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        pooled, shares = pool(features, association), affinity(association)
    torch.testing.assert_close(pooled, pool(features, association), atol=0, rtol=0)
    torch.testing.assert_close(shares, affinity(association), atol=0, rtol=0)
    assert pool(features.bfloat16(), association.bfloat16()).dtype == torch.float32
