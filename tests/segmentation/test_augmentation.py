"""The augmentation is the spec's: its ranges, its order, and image and labels moved alike to the pixel."""

import colorsys
from itertools import product

import cv2
import numpy as np
import pytest
import torch

from data.normalisation import IMAGENET, Normalisation
from segmentation.data import (
    ScalesAugmentation,
    SegmentationAugmentation,
    jitter_colours,
    scale_image,
    scale_labels,
)

SHAPES = [(1, 1), (4, 1), (1, 4), (4, 4), (3, 1), (13, 22)]
FACTORS = [0.5, 0.77, 1.0, 1.5]


def random_image(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def random_labels(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, 22, shape, np.uint8)
    labels[labels == 21] = 255
    return labels


def augmentation(crop_size: int, *, factor: float = 1.0, **changes) -> SegmentationAugmentation:
    """One that scales by `factor` and crops; `changes` switch on what else is wanted."""
    fixed = {"scale": (factor, factor), "jitter": (0, 0, 0), "mirrored": 0.0, "normalisation": IMAGENET}
    return SegmentationAugmentation(crop_size=crop_size, **(fixed | changes))


# -- colour jitter -----------------------------------------------------------------------------------------------------


def naive_jitter(image: np.ndarray, shifts: tuple[int, int, int]) -> np.ndarray:
    moved = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    for pixel in moved.reshape(-1, 3):
        pixel[0] = (pixel[0] + shifts[0]) % 180
        pixel[1] = min(max(pixel[1] + shifts[1], 0), 255)
        pixel[2] = min(max(pixel[2] + shifts[2], 0), 255)
    return cv2.cvtColor(moved.astype(np.uint8), cv2.COLOR_HSV2RGB)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("shifts", [(0, 0, 0), (10, -10, 10), (-10, 10, -10), (90, 255, -255), (-90, -255, 255)])
def test_jitter_moves_opencvs_hsv_around_the_hue_circle_and_up_to_the_bounds_of_the_others(shape, shifts):
    image = random_image(shape)
    before = image.copy()
    np.testing.assert_array_equal(jitter_colours(image, shifts), naive_jitter(image, shifts))
    np.testing.assert_array_equal(image, before)


def test_shifts_of_0_are_a_round_trip_through_opencvs_hsv():
    image = random_image((40, 30))
    round_trip = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(jitter_colours(image, (0, 0, 0)), round_trip)


@pytest.mark.parametrize("shift", [-10, -1, 1, 10])
def test_a_step_of_hue_is_two_degrees_also_past_red(shift):
    for red, green, blue in [(255, 0, 0), (255, 8, 0), (255, 0, 8), (0, 255, 0), (200, 20, 90)]:
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        expected = colorsys.hsv_to_rgb((hue + 2 * shift / 360) % 1, saturation, value)
        found = jitter_colours(np.array([[[red, green, blue]]], np.uint8), (shift, 0, 0))
        # OpenCV's hue has steps of two degrees, each worth 8 or 9 levels of a channel.
        np.testing.assert_allclose(found[0, 0], 255 * np.array(expected), atol=6)


def test_saturation_and_value_stop_at_their_bounds():
    white, black, red = (np.full((1, 1, 3), colour, np.uint8) for colour in (255, 0, (255, 0, 0)))
    np.testing.assert_array_equal(jitter_colours(white, (0, 0, 10)), white)
    np.testing.assert_array_equal(jitter_colours(black, (0, 0, -10)), black)
    np.testing.assert_array_equal(jitter_colours(red, (0, 10, 0)), red)
    np.testing.assert_array_equal(jitter_colours(white, (0, -10, 0)), white)


def test_every_jitter_from_minus_10_to_10_is_drawn_and_none_beyond_each_channel_by_itself():
    torch.manual_seed(0)
    image = random_image((4, 4), seed=3)
    labels = np.zeros((4, 4), np.uint8)
    most = 12  # past the bounds, to see what passes them
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).reshape(-1, 3).astype(int)
    shifts = np.array(list(product(range(-most, most + 1), repeat=3)))
    moved = hsv + shifts[:, None]
    moved = np.stack([moved[..., 0] % 180, moved[..., 1].clip(0, 255), moved[..., 2].clip(0, 255)], axis=-1)
    colours = cv2.cvtColor(moved.astype(np.uint8), cv2.COLOR_HSV2RGB)
    shifts_of = {pixels.tobytes(): tuple(shift) for pixels, shift in zip(colours, shifts, strict=True)}
    assert len(shifts_of) == len(shifts)  # the pixels tell the shifts

    augment = augmentation(4, jitter=(10, 10, 10))
    drawn = []
    for _ in range(700):
        pixels = IMAGENET.rounded(augment(image, labels)[0]).permute(1, 2, 0).contiguous().numpy()
        drawn.append(shifts_of[pixels.tobytes()])
    for channel in np.array(drawn).T:
        values, counts = np.unique(channel, return_counts=True)
        assert values.tolist() == list(range(-10, 11))
        assert counts.min() > 700 / 21 / 3
    assert np.abs(np.corrcoef(np.array(drawn).T) - np.eye(3)).max() < 0.15


# -- mirroring and scaling ---------------------------------------------------------------------------------------------


def naive_bicubic(image: np.ndarray, factor: float) -> np.ndarray:
    """Keys' interpolation with a = -3/4, as OpenCV has it, between pixel centres, borders repeated."""

    def weight(distance: float) -> float:
        t = abs(distance)
        if t <= 1:
            return 1.25 * t**3 - 2.25 * t**2 + 1
        return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0

    def matrix(side: int) -> np.ndarray:
        length = max(1, round(side * factor))
        weights = np.zeros((length, side))
        for i in range(length):
            centre = (i + 0.5) * side / length - 0.5
            for k in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
                weights[i, min(max(k, 0), side - 1)] += weight(centre - k)
        return weights

    rows, columns = (matrix(side) for side in image.shape[:2])
    return np.einsum("yh,xw,hwc->yxc", rows, columns, image.astype(float)).clip(0, 255)


@pytest.mark.parametrize("shape", [*SHAPES, (40, 31)])
@pytest.mark.parametrize("factor", FACTORS)
def test_an_image_is_scaled_bicubically_with_its_centres_aligned(shape, factor):
    image = random_image(shape)
    scaled = scale_image(image, factor)
    assert scaled.dtype == np.uint8
    np.testing.assert_allclose(scaled, naive_bicubic(image, factor), atol=1)


@pytest.mark.parametrize("shape", [*SHAPES, (40, 31)])
@pytest.mark.parametrize("factor", FACTORS)
def test_a_scaled_label_map_holds_the_label_at_the_nearest_centre(shape, factor):
    labels = random_labels(shape)
    scaled = scale_labels(labels, factor)
    assert scaled.dtype == np.uint8
    assert scaled.shape == tuple(max(1, round(side * factor)) for side in shape)

    def nearest(place: int, length: int, side: int) -> np.ndarray:
        """One index, or two that are as near."""
        distance = np.abs((place + 0.5) * side / length - 0.5 - np.arange(side))
        return np.flatnonzero(distance < distance.min() + 1e-3)

    for (y, x), label in np.ndenumerate(scaled):
        rows, columns = nearest(y, scaled.shape[0], shape[0]), nearest(x, scaled.shape[1], shape[1])
        assert label in labels[np.ix_(rows, columns)]


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("factor", [0.5, 1.5, 0.77])
def test_image_and_labels_of_the_same_blocks_stay_aligned_to_the_pixel(factor, axis):
    # Of a length at which no scaled pixel's centre falls on an edge.
    edges = np.repeat(np.random.default_rng(1).integers(0, 2, 41), 6).astype(np.uint8)
    blocks = np.stack([edges] * 10, axis=1 - axis)
    image = np.stack([255 * blocks] * 3, axis=-1)
    scaled = scale_image(image, factor)[..., 0] > 127
    assert 0 < scaled.mean() < 1
    np.testing.assert_array_equal(scaled, scale_labels(blocks, factor) == 1)


@pytest.mark.parametrize("factor", FACTORS)
def test_scaling_makes_no_new_labels(factor):
    labels = np.kron(random_labels((5, 6)), np.ones((7, 7), np.uint8))
    assert set(np.unique(scale_labels(labels, factor))) == set(np.unique(labels))


def test_a_mirror_image_comes_with_mirrored_labels():
    image, labels = random_image((9, 9)), random_labels((9, 9))
    plain_image, plain_labels = augmentation(9)(image, labels)
    mirrored_image, mirrored_labels = augmentation(9, mirrored=1.0)(image, labels)
    assert torch.equal(mirrored_image, plain_image.flip(-1))
    assert torch.equal(mirrored_labels, plain_labels.flip(-1))
    assert not torch.equal(mirrored_labels, plain_labels)


def test_half_of_the_images_are_mirrored():
    torch.manual_seed(0)
    labels = np.array([[1, 2]], np.uint8)
    augment = augmentation(2, mirrored=0.5)
    mirrored = sum(2 in augment(random_image((1, 2)), labels)[1][:, 0] for _ in range(400))
    assert 160 < mirrored < 240


def test_the_factor_is_uniform_between_its_bounds_and_the_same_for_both_sides():
    torch.manual_seed(0)
    augment = augmentation(320, scale=(0.5, 1.5))
    image, labels = np.full((100, 200, 3), 255, np.uint8), np.zeros((100, 200), np.uint8)
    widths = []
    for _ in range(200):
        inside = augment(image, labels)[1] == 0
        height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
        assert abs(height - width / 2) <= 1
        widths.append(width)
    assert 100 <= min(widths) < 110 and 290 < max(widths) <= 300
    assert np.histogram(widths, 4, (100, 300))[0].min() > 30


# -- the order of the steps --------------------------------------------------------------------------------------------


def test_colours_are_jittered_before_the_image_is_scaled_and_normalised_after():
    image, labels = random_image((12, 12)), random_labels((12, 12))
    torch.manual_seed(0)
    augment = augmentation(18, factor=1.5, jitter=(1, 1, 1), mirrored=1.0)

    def enlarge(pixels: np.ndarray) -> np.ndarray:
        return cv2.resize(np.ascontiguousarray(pixels), (18, 18), interpolation=cv2.INTER_CUBIC)

    def input_of(pixels: np.ndarray) -> bytes:
        return np.ascontiguousarray(IMAGENET(pixels)).tobytes()

    all_shifts = list(product((-1, 0, 1), repeat=3))
    right = {input_of(enlarge(naive_jitter(image, shifts)[:, ::-1])) for shifts in all_shifts}
    wrong = {input_of(naive_jitter(enlarge(image[:, ::-1]), shifts)) for shifts in all_shifts}
    assert not right & wrong  # else the order could not be told
    for _ in range(20):
        assert augment(image, labels)[0].numpy().tobytes() in right


def test_labels_are_mirrored_before_they_are_scaled():
    labels = random_labels((12, 12))
    _, augmented = augmentation(6, factor=0.5, mirrored=1.0)(random_image((12, 12)), labels)
    halve = {"dsize": (6, 6), "interpolation": cv2.INTER_NEAREST_EXACT}
    right = cv2.resize(np.ascontiguousarray(labels[:, ::-1]), **halve)
    wrong = cv2.resize(labels, **halve)[:, ::-1]
    assert not np.array_equal(right, wrong)  # of two labels as near the left one is taken
    np.testing.assert_array_equal(augmented, right)


def test_the_padding_comes_after_the_normalisation():
    image, label = augmentation(8)(np.zeros((5, 6, 3), np.uint8), np.full((5, 6), 3, np.uint8))
    black = (-torch.tensor(IMAGENET.mean) / torch.tensor(IMAGENET.std))[:, None]
    torch.testing.assert_close(image[:, label == 3], black.expand(3, 30))
    assert image[:, label != 3].eq(0).all()


# -- cropping ----------------------------------------------------------------------------------------------------------


def test_where_a_small_image_does_not_reach_the_image_is_0_and_the_label_255_and_it_lies_anywhere():
    torch.manual_seed(0)
    augment = augmentation(9)
    expected, _ = augmentation(5)(np.full((5, 5, 3), 255, np.uint8), np.zeros((5, 5), np.uint8))
    places = set()
    for _ in range(400):
        image, label = augment(np.full((5, 4, 3), 255, np.uint8), np.full((5, 4), 7, np.uint8))
        assert image.shape == (3, 9, 9) and image.dtype == torch.float32
        assert label.shape == (9, 9) and label.dtype == torch.int64
        inside = label == 7
        top, left = int(inside.any(1).nonzero()[0]), int(inside.any(0).nonzero()[0])
        assert inside.sum() == 20 and inside[top : top + 5, left : left + 4].all()
        assert label[~inside].eq(255).all()
        assert image[:, ~inside].eq(0).all()
        assert torch.equal(image[:, inside], expected[:, :4].reshape(3, 20))
        places.add((top, left))
    assert places == set(product(range(5), range(6)))


@pytest.mark.parametrize("shape", [(8, 7), (5, 9), (12, 5)])
def test_a_crop_of_a_larger_image_comes_from_anywhere_in_it_without_padding(shape):
    torch.manual_seed(0)
    image, labels = random_image(shape), np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
    whole = IMAGENET(naive_jitter(image, (0, 0, 0)))
    augment = augmentation(5)
    places = set()
    for _ in range(300):
        crop, label = augment(image, labels)
        top, left = divmod(int(label[0, 0]), shape[1])
        rows, columns = slice(top, top + 5), slice(left, left + 5)
        np.testing.assert_array_equal(label, labels[rows, columns])
        assert torch.equal(crop, whole[:, rows, columns])
        places.add((top, left))
    assert places == set(product(range(shape[0] - 4), range(shape[1] - 4)))


def test_a_side_that_is_larger_is_cropped_while_the_smaller_one_is_padded():
    torch.manual_seed(0)
    labels = np.arange(3 * 20, dtype=np.uint8).reshape(3, 20)
    image, label = augmentation(8)(random_image((3, 20)), labels)
    rows = (label != 255).all(1)
    assert rows.sum() == 3 and (label[~rows] == 255).all()
    left = int(label[rows][0, 0])
    np.testing.assert_array_equal(label[rows], labels[:, left : left + 8])
    assert image[:, ~rows].eq(0).all()


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 5)])
@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_images_of_a_pixel_or_a_line_keep_at_least_a_pixel(shape, factor):
    image, label = augmentation(8, factor=factor, jitter=(10, 10, 10), mirrored=1.0)(
        random_image(shape), np.full(shape, 9, np.uint8)
    )
    height, width = (max(1, round(side * factor)) for side in shape)
    assert image.shape == (3, 8, 8) and label.shape == (8, 8)
    assert (label == 9).sum() == height * width
    assert set(label.unique().tolist()) == {9, 255}


def test_labels_that_are_left_out_in_the_map_stay_so():
    labels = np.array([[255, 0], [20, 255]], np.uint8)
    _, label = augmentation(2)(random_image((2, 2)), labels)
    np.testing.assert_array_equal(label, labels)


# -- normalisation -----------------------------------------------------------------------------------------------------

STATISTICS = [(IMAGENET.mean, IMAGENET.std), ((0.0, 0.5, 1.0), (1.0, 0.01, 3.0))]


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_normalisation_is_the_formula_channel_by_channel(mean, std):
    image = random_image((7, 5))
    expected = (image / 255 - mean) / std
    normalised = Normalisation(mean, std)(image)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.permute(1, 2, 0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_rounding_gives_every_pixel_value_back(mean, std):
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    normalisation = Normalisation(mean, std)
    pixels = normalisation.rounded(normalisation(image))
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), image)


def test_the_inverse_of_padding_is_the_mean_and_bounds_are_kept():
    pixels = Normalisation((0.2, 0.4, 1.0), (1, 1, 1)).rounded(torch.tensor([0.0, -9.0, 9.0]).expand(3, 1, 3))
    assert pixels[:, 0].tolist() == [[51, 0, 255], [102, 0, 255], [255, 0, 255]]


def test_truncating_gives_what_is_below_and_rounding_what_is_nearest():
    image = torch.tensor([99.9, 100.1, 100.6]).expand(3, 1, 3) / 255
    plain = Normalisation((0.0,) * 3, (1.0,) * 3)
    assert plain.truncated(image)[0, 0].tolist() == [99, 100, 100]
    assert plain.rounded(image)[0, 0].tolist() == [100, 100, 101]


# -- one of several scales ---------------------------------------------------------------------------------------------


def of_scales(crop_size: int, scales: tuple[float, ...] = (1.0,), **changes) -> ScalesAugmentation:
    fixed = {"jitter": (0, 0, 0), "mirrored": 0.0, "normalisation": IMAGENET}
    return ScalesAugmentation(crop_size=crop_size, scales=scales, **(fixed | changes))


def test_a_smaller_image_lies_at_the_top_left_and_every_scale_of_the_list_comes_with_sides_rounded_down():
    torch.manual_seed(0)
    sizes = set()
    for _ in range(40):
        image, label = of_scales(30, (0.5, 1.0, 1.5))(random_image((13, 15)), np.ones((13, 15), np.uint8))
        inside = label == 1
        height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
        assert inside[:height, :width].all() and (label[~inside] == 255).all() and not image[:, ~inside].any()
        sizes.add((height, width))
    assert sizes == {(6, 7), (13, 15), (19, 22)}


def test_of_a_larger_image_every_place_is_cropped_and_half_are_mirrored_labels_too():
    torch.manual_seed(0)
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    pixels = np.repeat(labels[..., None], 3, axis=2)
    found = set()
    for _ in range(200):
        image, label = of_scales(2, mirrored=0.5)(pixels, labels)
        assert torch.equal(IMAGENET.rounded(image)[0].long(), label)
        found.add(tuple(label.flatten().tolist()))
    crops = [labels[y : y + 2, x : x + 2] for y, x in product(range(2), range(3))]
    assert found == {tuple(each.flatten().tolist()) for crop in crops for each in (crop, crop[:, ::-1])}


def test_without_jitter_colours_stay_and_with_it_they_do_not():
    image, labels = random_image((8, 8)), random_labels((8, 8))
    same, _ = of_scales(8)(image, labels)
    np.testing.assert_array_equal(IMAGENET.rounded(same).permute(1, 2, 0), image)
    moved, _ = of_scales(8, jitter=(90, 0, 0))(image, labels)
    assert not torch.equal(moved, same)
