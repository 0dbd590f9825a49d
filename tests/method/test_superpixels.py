"""Maps come to pixels along superpixels, of any method: loops over pixels written from the definition, an edge that no
resizing keeps, and images of any size."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from method import METHODS
from method.crt.config import CRTConfig
from method.superpixels import Superpixels
from network.scn import SCN
from network.superpixel import pool, up
from tests.method.test_contract import start
from tool.cam import multi_scale_cam

CPU = torch.device("cpu")
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
EVERY = torch.arange(20)


@pytest.fixture(scope="module")
def scn() -> SCN:
    """Random weights, its answers far from even."""
    torch.manual_seed(1)
    net = SCN().eval().requires_grad_(False)
    net.pred_mask0.weight.mul_(3)
    return net


def own_cell() -> SCN:
    """Says of each pixel that it belongs to its own cell."""
    net = SCN().eval().requires_grad_(False)
    net.pred_mask0.weight.zero_()
    net.pred_mask0.bias.copy_(100 * F.one_hot(torch.tensor(4), 9))
    return net


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def spread_by_hand(values: Tensor, association: Tensor) -> Tensor:
    """f(p) = sum_k Q_k(p) h(cell(p) + o_k), pixel by pixel: (C, H, W) of (C, h, w) and (9, H, W)."""
    rows, columns = values.shape[1:]
    found = torch.zeros(len(values), *association.shape[1:])
    for y in range(16 * rows):
        for x in range(16 * columns):
            for k, (dy, dx) in enumerate(OFFSETS):
                row, column = y // 16 + dy, x // 16 + dx
                if 0 <= row < rows and 0 <= column < columns:
                    found[:, y, x] += association[k, y, x] * values[:, row, column]
    return found


def walked_by_hand(values: Tensor, association: Tensor) -> Tensor:
    """A step of every cell's value to all others by up and pool, cell after cell."""
    found = torch.zeros_like(values)
    for row in range(values.shape[1]):
        for column in range(values.shape[2]):
            alone = torch.zeros(1, 1, *values.shape[1:])
            alone[..., row, column] = 1
            share = pool(up(alone, association[None]), association[None])[0, 0]
            found += values[:, row, column, None, None] * share
    return found


@torch.inference_mode()
@pytest.mark.parametrize("steps", [0, 2])
def test_maps_are_those_of_the_net_at_the_superpixels_of_the_scaled_image(scn, steps):
    learner, _ = start("cls")
    learner.eval()
    image = picture(20, 21)  # at scale 0.9: 18 x 19, 2 x 2 cells
    pixels = torch.from_numpy(np.array(image.resize((18, 19), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    whole = torch.zeros(20, 32, 32)
    for mirrored in (False, True):
        seen = learner.net.normalisation.of_pixels(pixels.flip(-1) if mirrored else pixels)[None]
        association = scn(F.interpolate(seen, (32, 32), mode="bilinear", align_corners=False))[0]
        values = F.interpolate(learner.net.foreground_cam(seen), (2, 2), mode="bilinear", align_corners=False)[0]
        for _ in range(steps):
            values = walked_by_hand(values, association)
        found = spread_by_hand(values, association)
        whole += found.flip(-1) if mirrored else found
    learner.superpixels = Superpixels(scn, steps)
    actual = learner.maps(image, 0.9, EVERY, CPU)
    torch.testing.assert_close(actual, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    some = learner.maps(image, 0.9, torch.tensor([17, 3]), CPU)
    torch.testing.assert_close(some, actual[[17, 3]])


def test_an_edge_is_where_the_association_has_it_and_not_where_cells_meet():
    """The object ends at column 20: four columns of the second cell belong to the first."""
    association = torch.zeros(2, 9, 16, 48)
    association[:, 4] = 1
    association[0, 4, :, 16:20], association[0, 3, :, 16:20] = 0, 1
    association[1] = association[0].flip(-1)
    association[1, 3], association[1, 5] = association[1, 5].clone(), association[1, 3].clone()
    values = torch.tensor([1.0, 0, 0]).view(1, 1, 1, 3)
    found = Superpixels(SCN()).spread(torch.cat([values, values.flip(-1)]), association)
    expected = torch.zeros(1, 16, 48)
    expected[..., :20] = 2
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_pixels_of_their_own_cells_have_its_value():
    learner, _ = start("cls")
    learner.eval()
    plain = learner.maps(picture(32, 48), 1.0, EVERY, CPU)  # of stride 8
    learner.superpixels = Superpixels(own_cell())
    found = learner.maps(picture(32, 48), 1.0, EVERY, CPU)
    cells = F.interpolate(plain[None], (3, 2), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(found, cells.repeat_interleave(16, 1).repeat_interleave(16, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_seeds_of_any_method_and_size_have_the_promised_form(method, scn):
    learner, _ = start(method)
    learner.eval()
    learner.superpixels = Superpixels(scn, steps=1)
    maps = partial(learner.maps, device=CPU)
    for size in ((56, 40), (5, 11), (1, 33)):
        cams = multi_scale_cam(maps, picture(*size), [3, 14], recipe=METHODS[method].seeds, device=CPU)
        assert list(cams) == [3, 14]
        for cam in cams.values():
            assert cam.dtype == np.float32 and cam.shape == size[::-1] and cam.max() <= 1 and np.isfinite(cam).all()


@torch.inference_mode()
def test_crts_maps_reach_beyond_the_image_and_so_do_its_superpixels():
    learner, _ = start("crt")
    for config in (CRTConfig(transformer="test_vit"), CRTConfig(transformer="test_vit", pad_mirror=False)):
        learner.config = config
        pair = learner.input_pair(picture(37, 20), 1.0, CPU)
        seen = learner.superpixel_pair(pair)
        assert seen.shape == (2, 3, 32, 48)
        torch.testing.assert_close(seen[..., : pair.shape[2], : pair.shape[3]], pair)
        assert not seen[:, :, 20:].any()
    assert torch.equal(seen[1], seen[0].flip(-1))


def test_the_helper_leaves_its_learners_weights_alone(scn):
    learner, _ = start("cls")
    before = [*learner.state_dict()]
    learner.superpixels = Superpixels(scn)
    assert [*learner.state_dict()] == before
