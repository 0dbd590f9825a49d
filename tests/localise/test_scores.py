"""Scores against a naive twin, with one and with several true boxes, and the oddity at an IoU of a half."""

import numpy as np
import pytest

from localise.boxes import NO_BOX, box_of, intersections, ious
from localise.scores import KINDS, Found, scores_of, summary
from tests.localise import naive


def random_boxes(rng, count):
    first, length = rng.integers(0, 8, (count, 2)), rng.integers(0, 6, (count, 2))
    return np.concatenate([first, first + length], axis=1)


def test_overlap_is_that_of_pixels():
    rng = np.random.default_rng(0)
    boxes, others = random_boxes(rng, 300), random_boxes(rng, 300)
    expected = [naive.iou(box, other) for box, other in zip(boxes, others, strict=True)]
    np.testing.assert_allclose(ious(boxes, others), expected)
    assert (intersections(boxes, others) == 0).any()


def test_scores_and_kinds_are_those_of_a_naive_twin():
    rng = np.random.default_rng(1)
    count = 600
    true = [random_boxes(rng, rng.integers(1, 4)) for _ in range(count)]
    found = Found(
        rng.integers(0, 7, count) * (rng.random(count) < 0.4), random_boxes(rng, count), random_boxes(rng, count)
    )
    scores = scores_of(found, true)
    kinds = [naive.kind(*each) for each in zip(found.rank == 0, found.best_box, true, strict=True)]
    assert set(kinds) == set(KINDS)
    for kind in KINDS:
        assert np.array_equal(scores[kind], np.array(kinds) == kind), kind
    best = [max(naive.iou(box, each) for each in boxes) for box, boxes in zip(found.true_box, true, strict=True)]
    np.testing.assert_allclose(scores["iou"], best)
    assert np.array_equal(scores["loc_top5"], (found.rank < 5) & (np.array(best) > 0.5))


def test_a_box_of_exactly_half_is_right_for_gt_known_alone_unless_asked_for():
    found = Found(np.zeros(1, int), np.array([[0, 0, 9, 4]]), np.array([[0, 0, 9, 4]]))
    true = [np.array([[0, 0, 9, 9]])]
    released, sane = scores_of(found, true), scores_of(found, true, at_least_half=True)
    assert released["gt_known"].all() and not released["loc_top1"].any()
    assert sane["loc_top1"].all() and sane["loc_top5"].all()
    assert summary(released)["gt_known"] == 100 and summary(released)["part"] == 1


@pytest.mark.parametrize("scores", [np.zeros((4, 4), np.float32), np.full((4, 4), 3, np.float32)])
def test_a_constant_map_has_no_box(scores):
    assert box_of(scores, threshold=0.1, side=32) == NO_BOX


def test_the_largest_part_gives_the_box_and_the_first_of_equals():
    scores = np.zeros((32, 32), np.float32)
    scores[2:6, 2:6] = scores[20:30, 10:30] = 1
    assert box_of(scores, threshold=0.5, side=32) == (10, 20, 30, 30)
    scores[20:30, 10:30] = 0
    scores[20:24, 20:24] = 1
    first = box_of(scores, threshold=0.5, side=32)
    assert first in ((2, 2, 6, 6), (20, 20, 24, 24))
    assert box_of(scores[::-1].copy(), threshold=0.5, side=32) != NO_BOX
