"""Multi-scale CAMs equal a computation by hand, and seeds are the argmax over background and all classes."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from tool.cam import maps_of_pair, min_max, mirrored_pair, multi_scale_cam, seed_labels, turned_back
from tool.seed_recipe import SeedRecipe

NUM_CLASSES = 20
CPU = torch.device("cpu")


class LinearNet(nn.Module):
    """One convolution of stride 2 to 20 maps, not symmetric under mirroring; notes the (height, width) it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, NUM_CLASSES, 3, stride=2, padding=1)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.conv.weight, generator=generator)
        nn.init.normal_(self.conv.bias, generator=generator)
        self.sizes = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(image.shape[2:]))
        return self.conv(image).relu()


def scaled(pixels: torch.Tensor) -> torch.Tensor:
    assert pixels.dtype == torch.uint8
    return pixels.float() / 255 - 0.5


def to_tensor(image: Image.Image) -> torch.Tensor:
    return scaled(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def photograph(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def cams_of(net, image, classes, scales, **changes):
    def maps(image, scale, index):
        return turned_back(maps_of_pair(net, mirrored_pair(image, scale, normalise=scaled, device=CPU))[:, index])

    return multi_scale_cam(
        maps, image, classes, recipe=replace(SeedRecipe(scales=tuple(scales)), **changes), device=CPU
    )


def cams_by_hand(net, image, classes, sizes):
    """Class by class, one picture at a time, resized by OpenCV; `sizes` are the (width, height) of the scales."""
    maps = {}
    for index in classes:
        total = np.zeros((image.height, image.width))
        for size in sizes:
            resized = np.array(image.resize(size, Image.Resampling.BICUBIC))
            for mirrored in (False, True):
                pixels = resized[:, ::-1] if mirrored else resized
                with torch.no_grad():
                    cam = net(to_tensor(Image.fromarray(pixels))[None])[0, index].numpy()
                cam = cv2.resize(cam, image.size, interpolation=cv2.INTER_LINEAR)
                total += cam[:, ::-1] if mirrored else cam
        maps[index] = total / (total.max() + 1e-5)
    return maps


# Halves go to the even number: 12.5 -> 12, 7.5 -> 8, 37.5 -> 38, 22.5 -> 22.
SIZES = {0.5: (12, 8), 1.0: (25, 15), 1.5: (38, 22), 2.0: (50, 30)}


@pytest.mark.parametrize("scales", [(0.5, 1.0, 1.5, 2.0), (1.5,), (0.5,)])
def test_cams_are_the_sum_over_scales_and_mirrors_divided_by_its_maximum(scales):
    net, image, classes = LinearNet(), photograph(25, 15), [3, 14]
    actual = cams_of(net, image, classes, scales)
    assert set(net.sizes) == {SIZES[scale][::-1] for scale in scales}
    expected = cams_by_hand(net, image, classes, [SIZES[scale] for scale in scales])
    assert list(actual) == classes
    for index in classes:
        assert actual[index].dtype == np.float32
        assert actual[index].max() < 1
        np.testing.assert_allclose(actual[index], expected[index], rtol=0, atol=1e-5)


def sum_by_hand(net, image, index, size):
    """The sum over scales .5 and 1 and their mirrors on a frame of `size`, (width, height), not normalised."""
    total = np.zeros(size[::-1])
    for scale in (0.5, 1.0):
        resized = np.array(image.resize(SIZES[scale], Image.Resampling.BICUBIC))
        for pixels in (resized, resized[:, ::-1]):
            with torch.no_grad():
                cam = net(to_tensor(Image.fromarray(pixels))[None])[0, index].numpy()
            cam = cam if pixels is resized else cam[:, ::-1]
            total += cv2.resize(np.ascontiguousarray(cam), size, interpolation=cv2.INTER_LINEAR)
    return total


def test_a_frame_holds_the_image_at_its_top_left_and_the_sum_is_cut_to_it_before_it_is_normalised():
    net, image = LinearNet(), photograph(25, 15)
    actual = cams_of(net, image, [3], (0.5, 1.0), frame=lambda size: (16, 32), is_cut=True)
    part = sum_by_hand(net, image, 3, (32, 16))[:15, :25]
    np.testing.assert_allclose(actual[3], part / (part.max() + 1e-5), rtol=0, atol=1e-5)


def test_or_it_is_normalised_and_then_resized_to_the_image():
    net, image = LinearNet(), photograph(25, 15)
    actual = cams_of(net, image, [3], (0.5, 1.0), frame=lambda size: (2 * size[0], 2 * size[1]))
    whole = sum_by_hand(net, image, 3, (50, 30))
    expected = cv2.resize(whole / (whole.max() + 1e-5), (25, 15), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(actual[3], expected, rtol=0, atol=1e-5)


def test_min_max_has_no_relu_at_its_end():
    """Entries under lo + 1e-5 are zeroed first, and come out below 0 where lo is above it."""
    maps = torch.tensor([[[-1.0, 2.0, 6.0]], [[3.0, 3.0, 3.0]], [[2.0, 4.0, 6.0]]])
    expected = [[[-1e-5 / 6, 2 / 6, 1.0]], [[-3e5, -3e5, -3e5]], [[-0.5, 0.5, 1.0]]]
    torch.testing.assert_close(min_max(maps), torch.tensor(expected), rtol=1e-3, atol=1e-5)


def test_only_the_classes_of_the_image_are_given_in_ascending_order():
    net, image = LinearNet(), photograph(20, 24)
    every = cams_of(net, image, range(NUM_CLASSES), (1.0,))
    some = cams_of(net, image, [17, 0, 5], (1.0,))
    assert list(every) == list(range(NUM_CLASSES))
    assert list(some) == [0, 5, 17]
    for index, cam in some.items():
        np.testing.assert_allclose(cam, every[index], rtol=0, atol=1e-6)


def test_a_class_without_activation_is_zero_everywhere():
    net = LinearNet()
    with torch.no_grad():
        net.conv.bias[7] = -1e3
    cams = cams_of(net, photograph(9, 9), [7, 8], (1.0, 2.0))
    assert not cams[7].any()
    assert cams[8].any()


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1)])
def test_an_image_of_one_pixel_across_has_cams_at_every_scale(size):
    net, image = LinearNet(), photograph(*size)
    cams = cams_of(net, image, [2, 11], (0.1, 0.5, 2.0))
    assert {cam.shape for cam in cams.values()} == {image.size[::-1]}
    at_least_one = [tuple(max(round(side * scale), 1) for side in size) for scale in (0.1, 0.5, 2.0)]
    expected = cams_by_hand(net, image, [2, 11], at_least_one)
    for index, cam in cams.items():
        np.testing.assert_allclose(cam, expected[index], rtol=0, atol=1e-5)


def test_no_gradient_is_kept_and_the_net_is_left_as_it_was():
    net = LinearNet()
    before = net.conv.weight.clone()
    cams_of(net, photograph(8, 8), [0], (1.0,))
    assert net.conv.weight.grad is None and net.training
    assert torch.equal(net.conv.weight, before)


@given(
    classes=st.sets(st.integers(0, NUM_CLASSES - 1), min_size=1, max_size=4),
    threshold=st.sampled_from([0.0, 0.22, 0.25, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_seeds_are_the_argmax_over_background_and_twenty_classes(classes, threshold, seed):
    # Few values, so that classes tie with each other and with the background.
    values = np.array([0, 0.22, 0.25, 0.5, 1], np.float32)
    generator = np.random.default_rng(seed)
    cams = {index: generator.choice(values, (5, 4)) for index in sorted(classes, reverse=True)}
    stack = np.zeros((1 + NUM_CLASSES, 5, 4), np.float32)
    stack[0] = threshold
    for index, cam in cams.items():
        stack[index + 1] = cam
    labels = seed_labels(cams, threshold=threshold, shape=(5, 4))
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, stack.argmax(0))


def test_background_wins_a_tie():
    tie = np.array([[0.25, np.nextafter(np.float32(0.25), np.float32(1))]], np.float32)
    np.testing.assert_array_equal(seed_labels({19: tie}, threshold=0.25, shape=(1, 2)), [[0, 20]])
