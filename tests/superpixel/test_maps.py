"""Superpixels as files and pictures: what is read back, refusals, and images whose sides 16 does not divide."""

import numpy as np
import pytest
import torch
from PIL import Image

from network.scn import SCN
from superpixel.inference import association_of, superpixels_of
from superpixel.maps import BORDER, load_superpixels, outlined, save_superpixels
from tool.cli import UserError


def test_a_map_comes_back_and_others_are_named(tmp_path):
    path = tmp_path / "a.npy"
    superpixels = np.arange(12).reshape(3, 4)
    save_superpixels(path, superpixels)
    assert (load_superpixels(path, (3, 4)) == superpixels).all()
    for found, message in (
        (superpixels.T, r"expected whole numbers of shape \(3, 4\) \(height, width\), found int64 \(4, 3\)"),
        (superpixels / 2, "found float64"),
        (superpixels - 1, "0 to 11, found -1 to 10"),
        (superpixels + 1, "0 to 11, found 1 to 12"),
    ):
        np.save(path, found)
        with pytest.raises(UserError, match=rf"a\.npy: .*{message}"):
            load_superpixels(path, (3, 4))


def test_borders_are_drawn_at_both_sides_and_nothing_else_changes():
    superpixels = np.zeros((4, 6), int)
    superpixels[:, 3:] = 1
    pixels = np.asarray(outlined(Image.new("RGB", (6, 4), (1, 2, 3)), superpixels))
    assert (pixels[:, 2:4] == BORDER).all() and (pixels[:, [0, 1, 4, 5]] == (1, 2, 3)).all()


@pytest.mark.parametrize("shape", [(48, 32), (40, 70), (5, 100)])
def test_an_image_is_seen_at_the_next_multiples_of_16_and_its_pixels_take_the_nearest(shape):
    torch.manual_seed(0)
    net = SCN().eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8))
    found = superpixels_of(net, image, torch.device("cpu"))
    with torch.no_grad():
        association = association_of(net, net.normalisation(image))
    assert association.shape[2:] == tuple(-(-side // 16) * 16 for side in shape)
    for y, x in [(0, 0), (shape[0] - 1, shape[1] - 1), (3, 17)]:
        row, column = (int(i * many / one) for i, many, one in zip((y, x), association.shape[2:], shape, strict=True))
        best = int(association[0, :, row, column].argmax())
        cells = [side // 16 for side in association.shape[2:]]
        cell = [
            min(max(place // 16 + offset, 0), side - 1)
            for place, offset, side in zip((row, column), (best // 3 - 1, best % 3 - 1), cells, strict=True)
        ]
        assert found[y, x] == cell[0] * cells[1] + cell[1]
