"""The augmentation is the spec's, moves image and labels alike, and depends on a key alone; faulty files are named."""

import colorsys
import random
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from segmentation.data import (
    InputNormalisation,
    PseudoLabelSet,
    SegmentationAugmentation,
    check_label_maps,
    jitter_colours,
    scale_image,
    scale_labels,
    start_loader_process,
)
from tests.scripts.conftest import truncate
from tool.artifact import save_label_map
from tool.cli import UserError
from tool.colour import voc_palette
from voc12.dataset import EpochSampler
from voc12.transforms import IMAGENET_MEAN, IMAGENET_STD

NORMALISE = InputNormalisation(IMAGENET_MEAN, IMAGENET_STD)
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
    fixed = {"scale": (factor, factor), "jitter": (0, 0, 0), "mirrored": 0.0, "normalise": NORMALISE}
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
        pixels = NORMALISE.inverse(augment(image, labels)[0]).permute(1, 2, 0).contiguous().numpy()
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
        return np.ascontiguousarray(NORMALISE(pixels)).tobytes()

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
    black = (-torch.tensor(IMAGENET_MEAN) / torch.tensor(IMAGENET_STD))[:, None]
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
    whole = NORMALISE(naive_jitter(image, (0, 0, 0)))
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

STATISTICS = [(IMAGENET_MEAN, IMAGENET_STD), ((0.0, 0.5, 1.0), (1.0, 0.01, 3.0))]


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_normalisation_is_the_formula_channel_by_channel(mean, std):
    image = random_image((7, 5))
    expected = (image / 255 - mean) / std
    normalised = InputNormalisation(mean, std)(image)
    assert normalised.dtype == torch.float32
    np.testing.assert_allclose(normalised.permute(1, 2, 0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("mean", "std"), STATISTICS)
def test_the_inverse_gives_every_pixel_value_back(mean, std):
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    normalise = InputNormalisation(mean, std)
    pixels = normalise.inverse(normalise(image))
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels.permute(1, 2, 0), image)


def test_the_inverse_of_padding_is_the_mean_and_bounds_are_kept():
    pixels = InputNormalisation((0.2, 0.4, 1.0), (1, 1, 1)).inverse(torch.tensor([0.0, -9.0, 9.0]).expand(3, 1, 3))
    assert pixels[:, 0].tolist() == [[51, 0, 255], [102, 0, 255], [255, 0, 255]]


# -- samples -----------------------------------------------------------------------------------------------------------

IDS = [f"image {number}" for number in range(7)]


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """Seven sound images and their label maps."""
    roots = {"image_root": tmp_path / "images", "label_root": tmp_path / "labels"}
    for root in roots.values():
        root.mkdir()
    for number, identifier in enumerate(IDS):
        shape = 20 + number, 31
        Image.fromarray(random_image(shape, number)).save(roots["image_root"] / f"{identifier}.jpg")
        save_label_map(roots["label_root"] / f"{identifier}.png", random_labels(shape, number))
    return roots


def pseudo_labels(folders: dict[str, Path], seed: int = 5) -> PseudoLabelSet:
    augment = augmentation(24, scale=(0.5, 1.5), jitter=(10, 10, 10), mirrored=0.5)
    return PseudoLabelSet(IDS, **folders, augmentation=augment, seed=seed)


def assert_same_samples(sample: dict, other: dict) -> None:
    assert sample["id"] == other["id"]
    assert torch.equal(sample["image"], other["image"])
    assert torch.equal(sample["label"], other["label"])


def test_a_sample_is_the_augmented_image_with_its_own_labels(folders):
    whole = PseudoLabelSet(IDS, **folders, augmentation=augmentation(40), seed=0)
    assert len(whole) == len(IDS)
    for index, identifier in enumerate(IDS):
        sample = whole[0, index]
        assert set(sample) == {"image", "label", "id"} and sample["id"] == identifier
        pixels = np.asarray(Image.open(folders["image_root"] / f"{identifier}.jpg"))
        top, left = (sample["image"] != 0).any(0).nonzero().amin(0)
        rows, columns = slice(top, top + 20 + index), slice(left, left + 31)
        np.testing.assert_array_equal(sample["label"][rows, columns], random_labels((20 + index, 31), index))
        torch.testing.assert_close(sample["image"][:, rows, columns], NORMALISE(naive_jitter(pixels, (0, 0, 0))))


def test_a_key_gives_the_same_sample_in_any_order_and_whatever_ran_before(folders):
    first, second = pseudo_labels(folders), pseudo_labels(folders)
    forward = {index: first[1, index] for index in range(len(IDS))}
    torch.manual_seed(999)
    for index in reversed(range(len(IDS))):
        torch.rand(index)
        assert_same_samples(second[1, index], forward[index])


def test_another_seed_epoch_or_index_augments_differently(folders):
    for root in folders.values():  # the same picture under every index
        path = root / IDS[0]
        for file in root.iterdir():
            file.write_bytes(path.with_name(f"{IDS[0]}{file.suffix}").read_bytes())
    keys = list(product(range(3), range(3)))
    images = [pseudo_labels(folders, seed)[key]["image"].numpy().tobytes() for seed in (0, 1) for key in keys]
    assert len(set(images)) == len(images)


def test_reading_a_sample_leaves_the_global_generators_as_they_were(folders):
    samples = pseudo_labels(folders)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    samples[0, 0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize(("method", "num_workers"), [("fork", 2), ("spawn", 1)])
def test_loader_processes_and_resuming_change_nothing(folders, method, num_workers):
    def batches(start_step: int, num_steps: int, **loading) -> list[dict]:
        sampler = EpochSampler(len(IDS), 3, seed=5, start_step=start_step, num_steps=num_steps)
        return list(
            DataLoader(pseudo_labels(folders), batch_sampler=sampler, worker_init_fn=start_loader_process, **loading)
        )

    whole = batches(0, 5, num_workers=0)
    resumed = batches(1, 4, num_workers=num_workers, multiprocessing_context=method)
    assert len(whole) == 5
    assert whole[0]["image"].shape == (3, 3, 24, 24) and whole[0]["label"].shape == (3, 24, 24)
    for batch, other in zip(resumed, whole[1:], strict=True):
        assert_same_samples(batch, other)


def test_without_shuffling_every_epoch_has_the_images_in_their_order():
    steps = list(EpochSampler(7, 3, seed=1, shuffle=False, num_steps=5))
    first, second = [0, 1, 2], [3, 4, 5]
    assert [[index for _, index in batch] for batch in steps] == [first, second, first, second, first]
    assert [{epoch for epoch, _ in batch} for batch in steps] == [{0}, {0}, {1}, {1}, {2}]
    assert list(EpochSampler(7, 3, seed=1, shuffle=False, start_step=3, num_steps=2)) == steps[3:]


def test_a_file_that_changes_after_the_check_is_named_when_it_is_read(folders):
    samples = pseudo_labels(folders)
    save_label_map(folders["label_root"] / f"{IDS[0]}.png", random_labels((5, 5)))
    (folders["image_root"] / f"{IDS[1]}.jpg").unlink()
    with pytest.raises(UserError, match=rf"{IDS[0]}\.png.* 20 x 31 .*5 x 5"):
        samples[0, 0]
    with pytest.raises(UserError, match=rf"{IDS[1]}\.jpg"):
        samples[0, 1]


# -- the check before training -----------------------------------------------------------------------------------------


def refusal(folders: dict[str, Path], ids: list[str], **arguments) -> list[str]:
    """The lines of the one message that refuses `ids`."""
    with pytest.raises(UserError) as raised:
        check_label_maps(ids, **folders, label_key="DATA_PSEUDO_GT", **arguments)
    return str(raised.value).split("\n")


def test_sound_files_pass_also_as_grey_pngs(folders):
    Image.fromarray(random_labels((20, 31))).save(folders["label_root"] / f"{IDS[0]}.png")
    check_label_maps(IDS, **folders, label_key="DATA_PSEUDO_GT")


def test_every_faulty_file_is_named_in_one_message(folders):
    ids = [f"id{number}" for number in range(12)]
    images, labels = folders["image_root"], folders["label_root"]
    for number, identifier in enumerate(ids):
        Image.fromarray(random_image((10, 16), number)).save(images / f"{identifier}.jpg")
        save_label_map(labels / f"{identifier}.png", random_labels((10, 16), number))

    def labels_of(number: int) -> Path:
        return labels / f"{ids[number]}.png"

    labels_of(0).unlink()
    truncate(labels_of(1), 20)
    labels_of(2).write_bytes(b"")
    save_label_map(labels_of(3), random_labels((16, 10)))
    Image.fromarray(np.full((10, 16), 21, np.uint8)).save(labels_of(4))
    Image.fromarray(voc_palette()[random_labels((10, 16))]).save(labels_of(5))
    Image.fromarray(voc_palette()[random_labels((10, 16))]).quantize(22).save(labels_of(6))
    (images / f"{ids[7]}.jpg").unlink()
    truncate(images / f"{ids[8]}.jpg", 20)
    (images / f"{ids[9]}.jpg").unlink()
    Image.fromarray(np.full((10, 16), 254, np.uint8)).save(labels_of(9))
    Image.fromarray(np.zeros((10, 16), np.uint16)).save(labels_of(10))

    summary, *lines = refusal(folders, ids, advice="make them again")
    assert "DATA_PSEUDO_GT" in summary and str(labels) in summary and "make them again (12):" in summary
    expected = [
        (f"{ids[0]}.png", "no such file"),
        (f"{ids[1]}.png", "damaged"),
        (f"{ids[2]}.png", "damaged"),
        (f"{ids[3]}.png", "expected 10 x 16 (height x width), found 16 x 10"),
        (f"{ids[4]}.png", "expected labels 0 to 20 or 255, found 21"),
        (f"{ids[5]}.png", "found RGB colours"),
        (f"{ids[6]}.png", "colours, not label indices"),
        (f"{ids[7]}.jpg", "no such file"),
        (f"{ids[8]}.jpg", "truncated"),
        (f"{ids[9]}.jpg", "no such file"),
        (f"{ids[9]}.png", "found 254"),
        (f"{ids[10]}.png", "16-bit"),
    ]
    assert len(lines) == len(expected)
    for line, (name, why) in zip(lines, expected, strict=True):
        assert name in line and why in line, line
    assert ids[11] not in "".join(lines)


def test_a_label_map_that_is_a_folder_or_a_link_to_nothing_is_named_too(folders):
    (folders["label_root"] / "folder.png").mkdir()
    (folders["label_root"] / "link.png").symlink_to("nowhere.png")
    for identifier in ("folder", "link"):
        Image.fromarray(random_image((4, 4))).save(folders["image_root"] / f"{identifier}.jpg")
    _, *lines = refusal(folders, ["folder", IDS[0], "link"])
    assert len(lines) == 2 and "folder.png" in lines[0] and "link.png" in lines[1]
