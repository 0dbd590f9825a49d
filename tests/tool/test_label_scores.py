"""Scores by label, as training of AffinityNet reads them: dicts of an image's labels, or arrays of all."""

import numpy as np
import pytest

from tool.artifact import load_label_scores, save_cam, save_crf
from tool.cli import UserError
from voc12.classes import VOC12

SHAPE = (3, 5)


def full(value):
    return np.full(SHAPE, value, np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.npy"


def test_a_crf_dict_comes_back_as_it_was_saved(path):
    save_crf(path, {15: full(0.25), 0: full(0.75)}, VOC12)
    found = load_label_scores(path, VOC12, shape=SHAPE)
    assert list(found) == [0, 15] and (found[15] == 0.25).all() and found[0].dtype == np.float32


def test_a_dict_of_some_of_many_labels_may_sum_to_a_little_less(path):
    np.save(path, {0: full(0.6), 3: full(0.3)}, allow_pickle=True)
    assert list(load_label_scores(path, VOC12)) == [0, 3]


def test_an_array_has_a_row_for_each_label(path):
    array = np.zeros((21, *SHAPE), np.float64)
    array[7] = 1
    np.save(path, array)
    found = load_label_scores(path, VOC12, shape=SHAPE)
    assert list(found) == list(range(21)) and (found[7] == 1).all() and found[0].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({3: full(1.0)}, "there is no background, key 0"),
        ({0: full(0.1), 3: full(0.2)}, "they do not sum to about 1"),
        ({0: full(0.8), 3: full(0.8)}, "they do not sum to about 1"),
        ({0: full(1.0), 21: full(0.0)}, r"keys 0 to 20, found the key 21"),
        ({0: full(np.nan)}, "not finite"),
        ({0: full(1.0)[:, :4]}, r"expected 3 x 5 \(height x width\) under key 0, found 3 x 4"),
        ({}, "there is no background"),
        (
            np.zeros((20, *SHAPE), np.float32),
            r"expected \(21, height, width\), by label, found an array of \(20, 3, 5\)",
        ),
        (np.zeros(SHAPE, np.float32), r"found an array of \(3, 5\)"),
    ],
)
def test_anything_else_is_refused_by_name(path, value, message):
    np.save(path, value, allow_pickle=True)
    with pytest.raises(UserError, match=f"scores.npy.*{message}"):
        load_label_scores(path, VOC12, shape=SHAPE)


def test_a_cam_dict_is_none(path):
    save_cam(path, {0: full(0.1), 4: full(0.3)}, VOC12)
    with pytest.raises(UserError, match="found other maps"):
        load_label_scores(path, VOC12)
