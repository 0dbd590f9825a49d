"""The random walk: golden numbers, the powers of the full matrix, and what it may not change."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refine import walk
from refine.walk import random_walk
from tests.golden_inputs import assert_golden, rnd, uni
from tool.pairs import pairs_of


def full_transition(affinities, pairs, beta):
    """T as its definition has it, (h w, h w), in double precision."""
    matrix = torch.eye(pairs.height * pairs.width, dtype=torch.float64)
    for value, first, second in zip(affinities.double().tolist(), *pairs.index.tolist(), strict=True):
        matrix[first, second] = matrix[second, first] = value
    matrix = matrix**beta
    return matrix / matrix.sum(dim=0)


@pytest.fixture(params=["scipy", "torch"])
def backend(request, monkeypatch):
    """How a CPU multiplies, and how a GPU does."""
    if request.param == "torch":
        monkeypatch.setattr(walk, "walked_by_scipy", walk.walked_by_torch)


@pytest.mark.parametrize(
    ("size", "everywhere", "beta", "steps"),
    [((12, 17), False, 8, 64), ((9, 14), True, 10, 256), ((6, 6), False, 1.5, 1)],
)
def test_sparse_products_are_the_powers_of_the_full_matrix(backend, size, everywhere, beta, steps):
    pairs = pairs_of(*size, everywhere=everywhere)
    affinities, scores = 0.3 + 0.7 * uni(1, len(pairs)), rnd(2, 3, *size)
    power = torch.linalg.matrix_power(full_transition(affinities, pairs, beta), steps)
    expected = (scores.double().flatten(1) @ power).view(scores.shape)
    found = random_walk(scores, affinities, pairs, beta=beta, steps=steps)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)


def test_equal_scores_stay_equal_and_without_pairs_all_stay(backend):
    pairs = pairs_of(12, 12)
    walked = random_walk(torch.full((1, 12, 12), 0.27), uni(1, len(pairs)), pairs, beta=8, steps=64)
    torch.testing.assert_close(walked, torch.full((1, 12, 12), 0.27), atol=1e-5, rtol=0)
    for size in ((1, 1), (4, 30)):
        pairs, scores = pairs_of(*size), rnd(1, 2, *size)
        assert torch.equal(random_walk(scores, torch.zeros(0), pairs, beta=8, steps=64), scores)


@pytest.mark.golden
def test_the_powers_of_the_transition_are_the_golden_ones(golden, golden_device):
    """Each row of T^64: the walk of a score of 1 in one cell."""
    expected = np.load(golden / "ppc" / "affinity.npz")
    pairs = pairs_of(12, 16)
    affinities = torch.from_numpy(expected["head_aff"]).flatten().to(golden_device)
    cells = torch.eye(192, device=golden_device)[::17].view(-1, 12, 16)
    walked = random_walk(cells, affinities, pairs, beta=8, steps=64)
    assert_golden(walked.flatten(1), expected["walk_transition"], atol=1e-5)


@pytest.mark.golden
@pytest.mark.parametrize(("name", "background"), [("walk", 0.27), ("walk_seam", None)])
def test_walked_maps_and_their_labels_are_the_golden_ones(golden, ppc_meta, golden_device, name, background):
    from refine.affinity.walked import WalkRecipe, label_map, with_background

    expected = np.load(golden / "ppc" / "affinity.npz")
    seed = ppc_meta["seed"]
    cams = torch.stack(
        [
            uni(seed + 170, 93, 121) ** 3,
            uni(seed + 171, 12, 16).repeat_interleave(8, 0).repeat_interleave(8, 1)[:93, :121] ** 2,
        ]
    ).to(golden_device)
    scores = with_background(cams, WalkRecipe(background=background))
    affinities = torch.from_numpy(expected["head_aff"]).flatten().to(golden_device)
    walked = random_walk(F.avg_pool2d(scores[None], 8)[0], affinities, pairs_of(12, 16), beta=8, steps=64)
    walked = F.interpolate(walked[None], (96, 128), mode="bilinear")[0]
    assert_golden(walked[:, ::3, ::3], expected[name], atol=1e-5)
    assert (label_map(walked, [4, 18], (93, 121)) == expected[f"{name}_label"]).all()
