"""Scores before and after the walk: backgrounds, padding, and an image whose cells all differ."""

import numpy as np
import pytest
import torch
from PIL import Image

from network.affinity import build_affinity_net
from refine.affinity.walked import WalkRecipe, label_map, padded, sharpened, walked_scores, with_background
from tests.golden_inputs import rnd, uni


@pytest.mark.parametrize(
    ("recipe", "inside", "beside"),
    [
        (WalkRecipe(), 0.27, 0),
        (WalkRecipe(background_beside=True), 0.27, 0.27),
        (WalkRecipe(background=None, alpha=2), (1 - 0.75) ** 2, 0),
        (WalkRecipe(background=None, alpha=2, background_beside=True), (1 - 0.75) ** 2, 1),
    ],
)
def test_the_background_is_a_constant_or_what_the_classes_leave(recipe, inside, beside):
    cams = torch.stack([torch.full((9, 13), -3.0), torch.full((9, 13), 0.75)])
    scores = with_background(cams, recipe)
    assert scores.shape == (3, 16, 16)
    assert torch.equal(scores[1:, :9, :13], cams)
    np.testing.assert_allclose(scores[0, :9, :13], inside)
    is_beside = torch.ones(16, 16, dtype=torch.bool)
    is_beside[:9, :13] = False
    assert (scores[1:, is_beside] == 0).all()
    np.testing.assert_allclose(scores[0, is_beside], beside)


def test_a_maximum_below_0_counts_as_0_and_one_above_1_as_1():
    recipe = WalkRecipe(background=None, alpha=3)
    assert (with_background(torch.full((1, 8, 8), -6.6), recipe)[0] == 1).all()
    assert (with_background(torch.full((1, 8, 8), 1.25), recipe)[0] == 0).all()


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return build_affinity_net(width=0.0625, frozen=False).eval()


def test_a_walk_to_no_other_cell_gives_the_block_means_resized(net):
    """With a large exponent only equal cells are near each other."""
    image = Image.fromarray((255 * uni(0, 40, 48, 3)).byte().numpy())
    cams = {3: uni(1, 37, 44).numpy(), 11: uni(2, 37, 44).numpy()}
    image = image.crop((0, 0, 44, 37))
    recipe = WalkRecipe(beta=1e6)
    found = walked_scores(net, image, cams, recipe=recipe, device=torch.device("cpu"), amp="off")
    cells = torch.nn.functional.avg_pool2d(
        with_background(torch.from_numpy(np.stack(list(cams.values()))), recipe)[None], 8
    )
    expected = torch.nn.functional.interpolate(cells, (40, 48), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_net_in_half_precision_gives_nearly_the_same(net):
    image = Image.fromarray((255 * uni(0, 96, 104, 3)).byte().numpy())
    cams = {3: uni(1, 96, 104).numpy()}
    found = [
        walked_scores(net, image, cams, recipe=WalkRecipe(), device=torch.device("cpu"), amp=amp)
        for amp in ("off", "bf16")
    ]
    assert found[1].dtype == torch.float32
    torch.testing.assert_close(*found, atol=2e-2, rtol=0)


def test_the_crf_leaves_a_flat_image_of_sure_scores_as_it_is(net):
    image = Image.fromarray(np.full((37, 44, 3), 90, np.uint8))
    scores = torch.zeros(3, 40, 48)
    scores[2] = 1
    posterior = sharpened(image, scores, [4, 9], num_labels=21, normalisation=net.normalisation, backend="torch")
    assert (label_map(posterior, [4, 9], (37, 44)) == 10).all()


def test_sides_are_padded_to_multiples_of_8_at_the_right_and_below():
    values = rnd(0, 2, 9, 16)
    assert torch.equal(padded(values)[:, :9], values) and padded(values).shape == (2, 16, 16)
    assert padded(torch.ones(1, 8, 8)).shape == (1, 8, 8)
