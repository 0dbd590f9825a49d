"""Instances' file, and their average precision against the definition."""

import numpy as np
import pytest

from tool.artifact import save_cam
from tool.cli import UserError
from tool.instances import Instances, average_precision, load_instances, save_instances
from voc12.classes import VOC12

SHAPE = (12, 15)


def box(top, left, height, width):
    mask = np.zeros(SHAPE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def made(*instances):
    found = Instances.none(SHAPE)
    for score, mask, index in instances:
        found.add(score, mask, index)
    return found


def test_a_file_comes_back_as_it_was_and_an_empty_one_too(tmp_path):
    path = tmp_path / "a.npy"
    for instances in (made((0.5, box(0, 0, 3, 4), 19), (0.25, box(5, 5, 2, 2), 0)), Instances.none(SHAPE)):
        save_instances(path, instances)
        found = load_instances(path, VOC12, shape=SHAPE)
        assert found.scores == instances.scores and found.classes == instances.classes
        assert np.array_equal(found.masks, instances.masks)
    plain = np.load(path, allow_pickle=True).item()
    assert plain["mask"].shape == (0, *SHAPE) and plain["class"].dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((1, 3, 3), bool)}, r"expected score \(n\), mask \(n, 12, 15\)"),
        ({"mask": np.zeros((1, *SHAPE), np.float32)}, "expected instances, arrays score, mask and class"),
        ({"class": np.array([20])}, "of classes 0 to 19"),
        ({"score": np.array([np.nan], np.float32)}, "expected finite scores"),
        ({"score": None}, "expected instances"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(tmp_path, change, message):
    path = tmp_path / "a.npy"
    value = {"score": np.ones(1, np.float32), "mask": np.ones((1, *SHAPE), bool), "class": np.zeros(1, np.int64)}
    np.save(path, np.array({**value, **change}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=rf"a\.npy: .*{message}"):
        load_instances(path, VOC12, shape=SHAPE)
    save_cam(path, {3: np.ones(SHAPE, np.float32) * 0.5}, VOC12)
    with pytest.raises(UserError, match="expected instances"):
        load_instances(path, VOC12, shape=SHAPE)


def plain_precision(images, index):
    """The area under precision over recall, the highest precision at that recall or a larger one, threshold by
    threshold."""
    truths = sum(label == index for _, true in images for label in true.classes)
    thresholds = sorted({score for found, _ in images for score, _, label in found if label == index}, reverse=True)
    points = []
    for threshold in thresholds:
        right = total = 0
        for found, true in images:
            left = [mask for _, mask, label in true if label == index]
            taken = [False] * len(left)
            for score, mask, label in sorted(found, key=lambda each: -each[0]):
                if label != index or score < threshold:
                    continue
                total += 1
                overlaps = [(mask & other).sum() / (mask | other).sum() for other in left]
                if overlaps and max(overlaps) >= 0.5 and not taken[(best := overlaps.index(max(overlaps)))]:
                    taken[best] = True
                    right += 1
        points.append((right / truths, right / total))
    area, last = 0.0, 0.0
    for number, (recall, _) in enumerate(points):
        area += (recall - last) * max(precision for _, precision in points[number:])
        last = recall
    return area


def random_images(generator, count):
    images = []
    for _ in range(count):
        true, found = Instances.none(SHAPE), Instances.none(SHAPE)
        for _ in range(generator.integers(0, 4)):
            place = (*generator.integers(0, 8, 2), *generator.integers(2, 7, 2))
            index = int(generator.integers(0, 3))
            true.add(1.0, box(*place), index)
            for _ in range(generator.integers(0, 3)):
                moved = box(*np.maximum(np.array(place) + generator.integers(-1, 2, 4), [0, 0, 1, 1]))
                found.add(float(generator.random()), moved, index if generator.random() < 0.8 else 2)
        images.append((found, true))
    return images


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_the_definition(seed):
    images = random_images(np.random.default_rng(seed), 6)
    found = average_precision(images, 5)
    for index in range(3):
        if any(index in true.classes for _, true in images):
            assert found[index] == pytest.approx(plain_precision(images, index))
    assert np.isnan(found[3:]).all()


def test_a_second_find_of_an_object_is_wrong_and_half_an_overlap_is_enough():
    truth = made((1.0, box(0, 0, 4, 4), 2))
    half, less = box(0, 0, 4, 2), box(0, 0, 4, 1)
    for finds, expected in (
        ([(0.9, half, 2)], 1.0),
        ([(0.9, less, 2)], 0.0),
        ([(0.9, half, 3)], 0.0),
        ([(0.9, half, 2), (0.8, box(0, 0, 4, 4), 2)], 1.0),
        ([(0.9, less, 2), (0.8, half, 2)], 0.5),
    ):
        assert average_precision([(made(*finds), truth)], 4)[2] == expected, finds
    twice = [(made((0.9, half, 2), (0.8, half, 2)), truth), (made(), truth)]
    assert average_precision(twice, 4)[2] == 0.5
