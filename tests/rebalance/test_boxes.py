"""Boxes on grids, and the features of a crop: as plain loops have them."""

import math

import numpy as np
import pytest
import torch

from rebalance.boxes import Box, features_of_crop, nearest
from tests.golden_inputs import rnd


@pytest.mark.golden
def test_the_nearest_are_the_golden_ones(golden):
    with np.load(golden / "dhr" / "transforms.npz") as file:
        rules = {name: file[name] for name in file.files if name.startswith(("cv2", "torch"))}
    for name, expected in rules.items():
        old, new = map(int, name.split("_")[1:])
        numbers = torch.arange(old)
        assert nearest(numbers.expand(2, old), (2, new))[1].tolist() == expected.tolist(), name
        assert nearest(numbers[:, None].expand(old, 3), (new, 5))[:, 4].tolist() == expected.tolist(), name


def test_a_box_keeps_at_least_a_cell_of_a_coarse_grid():
    assert Box(0, 0, 128, 96).on_grid(128, (8, 8)) == Box(0, 0, 8, 6)
    assert Box(20, 13, 104, 128).on_grid(128, (18, 32)) == Box(5, 1, 26, 18)
    assert Box(3, 120, 9, 128).on_grid(128, (4, 4)) == Box(0, 3, 1, 4)
    assert Box(127, 0, 128, 1).on_grid(128, (4, 4)) == Box(3, 0, 4, 1)


def naive_features(file, width, height, crop, mirrored):
    """Each value by itself, as the spec says it."""
    depth, file_h, file_w = file.shape
    grid_h = max(1, math.floor(file_h * (crop.bottom - crop.top) / height + 0.5))
    grid_w = max(1, math.floor(file_w * (crop.right - crop.left) / width + 0.5))
    found = np.zeros((depth, grid_h, grid_w))
    for i in range(grid_h):
        for j in range(grid_w):
            y = (crop.top + (i + 0.5) * (crop.bottom - crop.top) / grid_h) * file_h / height - 0.5
            x = (crop.left + (j + 0.5) * (crop.right - crop.left) / grid_w) * file_w / width - 0.5
            y, x = min(max(y, 0), file_h - 1), min(max(x, 0), file_w - 1)
            for row, of_row in ((int(y), 1 - y % 1), (min(int(y) + 1, file_h - 1), y % 1)):
                for column, of_column in ((int(x), 1 - x % 1), (min(int(x) + 1, file_w - 1), x % 1)):
                    at = file_w - 1 - column if mirrored else column
                    found[:, i, j] += of_row * of_column * file[:, row, at]
    return found


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("crop", [Box(0, 0, 90, 61), Box(13, 7, 71, 61), Box(88, 0, 90, 2), Box(40, 20, 90, 33)])
def test_features_of_a_crop_are_those_of_plain_loops(crop, mirrored):
    file = rnd(3, 5, 9, 14).half()
    found = features_of_crop(file, image_size=(90, 61), crop=crop, mirrored=mirrored)
    expected = naive_features(file.float().numpy(), 90, 61, crop, mirrored)
    assert found.dtype == torch.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_whole_image_has_the_features_of_its_file():
    file = rnd(1, 3, 54, 72).half()
    whole = {"image_size": (427, 320), "crop": Box(0, 0, 427, 320)}
    assert torch.equal(features_of_crop(file, **whole, mirrored=False), file.float())
    assert torch.equal(features_of_crop(file, **whole, mirrored=True), file.float().flip(-1))
