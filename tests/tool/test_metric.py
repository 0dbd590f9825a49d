"""The counts of one pass equal those of a plain loop over thresholds and classes, pixel for pixel, ties included."""

import json

import numpy as np
import pytest

from tool.artifact import load_cam, load_label_map
from tool.lists import read_ids
from tool.metric import iou, label_counts, mean_average_precision, threshold_counts
from voc12.classes import VOC12

LABELS = 21
THRESHOLDS = [k / 100 for k in range(60)]


def naive_counts(prediction, target):
    """One label at a time, from the definition."""
    counts = np.zeros((3, LABELS), np.int64)
    for label in range(LABELS):
        predicted = (prediction == label) & (target != 255)
        truth = target == label
        counts[:, label] = (predicted & truth).sum(), truth.sum(), predicted.sum()
    return counts


def naive_threshold_counts(cams, target, thresholds):
    """One threshold at a time: argmax over the whole stack, absent classes 0."""
    counts = []
    for threshold in thresholds:
        stack = np.zeros((LABELS, *target.shape), np.float32)
        stack[0] = threshold
        for c, scores in cams.items():
            stack[c + 1] = scores
        counts.append(naive_counts(stack.argmax(0), target))
    return np.stack(counts, axis=1)


def random_target(generator, shape):
    return generator.choice([0, 0, 1, 4, 15, 20, 255], shape).astype(np.uint8)


def tied_scores(generator, shape):
    """Scores at, just below and just above the float32 thresholds, and 0, -0 and negative ones."""
    levels = np.array(THRESHOLDS, np.float32)
    near = np.concatenate([levels, np.nextafter(levels, np.float32(-1)), np.nextafter(levels, np.float32(1))])
    return generator.choice(np.concatenate([near, np.float32([-0.5, -0.0, 0, 0.6, 0.99999])]), shape)


@pytest.mark.parametrize("classes", [(), (0,), (19,), (3, 0), (14, 3, 19, 0)])
@pytest.mark.parametrize("seed", range(5))
def test_one_pass_counts_what_a_loop_over_thresholds_counts(classes, seed):
    generator = np.random.default_rng(seed)
    target = random_target(generator, (37, 41))
    cams = {c: tied_scores(generator, target.shape) for c in classes}
    counts = threshold_counts(cams, target, thresholds=THRESHOLDS, num_labels=LABELS)
    np.testing.assert_array_equal(counts, naive_threshold_counts(cams, target, THRESHOLDS))
    assert counts.dtype == np.int64


def test_equal_scores_of_two_classes_go_to_the_first_whatever_the_order_of_the_dict():
    scores = np.full((2, 2), 0.5, np.float32)
    counts = threshold_counts({7: scores, 2: scores}, np.zeros((2, 2), np.uint8), thresholds=[0.1], num_labels=LABELS)
    assert counts[2, 0, 3] == 4 and counts[2].sum() == 4


def test_a_score_that_equals_the_threshold_in_float32_is_background():
    scores = np.array([[0.22, np.nextafter(np.float32(0.22), np.float32(1))]], np.float32)
    counts = threshold_counts({0: scores}, np.ones((1, 2), np.uint8), thresholds=[0.22], num_labels=LABELS)
    assert counts[2, 0, :2].tolist() == [1, 1]


def test_a_pixel_without_score_is_background_at_threshold_0():
    target = np.zeros((2, 3), np.uint8)
    for cams in ({}, {4: np.zeros((2, 3), np.float32)}):
        counts = threshold_counts(cams, target, thresholds=[0.0], num_labels=LABELS)
        assert counts[:, 0, 0].tolist() == [6, 6, 6] and counts.sum() == 18


def test_left_out_pixels_count_nowhere():
    target = np.full((2, 3), 255, np.uint8)
    assert label_counts(np.ones((2, 3), np.uint8), target, num_labels=LABELS).sum() == 0
    cams = {0: np.ones((2, 3), np.float32)}
    assert threshold_counts(cams, target, thresholds=THRESHOLDS, num_labels=LABELS).sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_label_counts_are_those_of_the_definition(seed):
    generator = np.random.default_rng(seed)
    target = random_target(generator, (23, 31))
    prediction = generator.integers(0, LABELS, target.shape, dtype=np.uint8)
    counts = label_counts(prediction, target, num_labels=LABELS)
    np.testing.assert_array_equal(counts, naive_counts(prediction, target))


def test_iou_of_a_label_that_nobody_names_is_0_and_stays_in_the_mean():
    prediction, target = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 255]])
    score = iou(label_counts(prediction, target, num_labels=4))
    np.testing.assert_allclose(score, [1 / 2, 1 / 2, 0, 0])
    assert score.mean() == 1 / 4


def test_iou_is_that_of_the_whole_list_not_the_mean_over_images():
    right = label_counts(np.zeros((1, 9), int), np.zeros((1, 9), int), num_labels=2)
    wrong = label_counts(np.zeros((1, 1), int), np.ones((1, 1), int), num_labels=2)
    np.testing.assert_allclose(iou(right + wrong), [0.9, 0])


def test_labels_out_of_range_and_other_sizes_are_refused():
    target = np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="0 to 20, found up to 21"):
        label_counts(np.full((2, 3), 21), target, num_labels=LABELS)
    with pytest.raises(ValueError, match="ground truth of 0 to 20 or 255"):
        label_counts(target, np.full((2, 3), 21), num_labels=LABELS)
    with pytest.raises(ValueError, match="shape"):
        label_counts(np.zeros((3, 2), np.uint8), target, num_labels=LABELS)
    with pytest.raises(ValueError, match="shape"):
        threshold_counts({1: np.zeros((3, 2), np.float32)}, target, thresholds=[0.1], num_labels=LABELS)


@pytest.mark.parametrize("thresholds", [[], [-0.1], [0.2, 0.1]])
def test_thresholds_are_ascending_and_not_negative(thresholds):
    with pytest.raises(ValueError, match="ascending"):
        threshold_counts({}, np.zeros((1, 1), np.uint8), thresholds=thresholds, num_labels=LABELS)


def test_the_golden_scores_are_reproduced(golden):
    folder = golden / "eval"
    expected = json.loads((folder / "expected.json").read_text())
    counts = {"png": 0, "npy_0.22": 0, "curve": 0}
    for image_id in read_ids(folder / "list.txt"):
        target = load_label_map(folder / "gt" / f"{image_id}.png", VOC12)
        cams = load_cam(folder / "npy" / f"{image_id}.npy", VOC12, shape=target.shape)
        prediction = load_label_map(folder / "png" / f"{image_id}.png", VOC12, shape=target.shape)
        counts["png"] += label_counts(prediction, target, num_labels=LABELS)
        counts["npy_0.22"] += threshold_counts(cams, target, thresholds=[0.22], num_labels=LABELS)[:, 0]
        counts["curve"] += threshold_counts(cams, target, thresholds=THRESHOLDS, num_labels=LABELS)
    for name in ("png", "npy_0.22"):
        score = 100 * iou(counts[name])
        np.testing.assert_allclose([*score, score.mean()], list(expected[name].values()), rtol=0, atol=1e-6)
    np.testing.assert_allclose(100 * iou(counts["curve"]).mean(1), expected["curve"], rtol=0, atol=1e-6)


def test_mean_average_precision_is_the_mean_precision_at_the_hits_over_the_classes_that_occur():
    scores = np.array([[0.9, 0.1, 0.5], [0.8, 0.7, 0.5], [0.1, 0.3, 0.5], [0.2, 0.9, 0.5]])
    truth = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]])
    # Class 0 ranks hit, miss, hit, hit; class 1 hit, hit, miss, miss; class 2 occurs nowhere.
    assert mean_average_precision(scores, truth) == pytest.approx(((1 + 2 / 3 + 3 / 4) / 3 + 1) / 2)
