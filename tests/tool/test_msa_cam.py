"""MSA's array of CAMs: written as its evaluators write it, read as any CAM dict by all that reads these."""

import numpy as np
import pytest

from tests.golden_inputs import uni
from tool.artifact import load_cam, save_cam
from tool.cli import UserError
from tool.irn_cam import load_quarter_cam
from tool.msa_cam import load_msa_cam, save_msa_cam
from voc12.classes import VOC12

SHAPE = (9, 14)


def cams_of(*classes: int) -> dict[int, np.ndarray]:
    return {index: 0.9 * uni(index, *SHAPE).numpy() for index in classes}


def assert_same_maps(found: dict, expected: dict) -> None:
    assert list(found) == list(expected)
    for index, scores in expected.items():
        np.testing.assert_array_equal(found[index], scores)


def test_the_file_is_an_array_of_all_labels_that_numpy_alone_reads(tmp_path):
    cams, background = cams_of(3, 14), uni(1, *SHAPE).numpy()
    save_msa_cam(tmp_path / "a.npy", cams, VOC12, shape=SHAPE, background=background)
    array = np.load(tmp_path / "a.npy")
    assert array.dtype == np.float32 and array.shape == (1, 21, *SHAPE)
    np.testing.assert_array_equal(array[0, [0, 4, 15]], [background, cams[3], cams[14]])
    assert not np.delete(array, [0, 4, 15], axis=1).any()


def test_all_that_reads_cams_reads_it(tmp_path):
    cams = cams_of(0, 14)
    save_msa_cam(tmp_path / "a.npy", cams, VOC12, shape=SHAPE, background=np.ones(SHAPE, np.float32))
    assert_same_maps(load_cam(tmp_path / "a.npy", VOC12, shape=SHAPE), cams)
    assert_same_maps(load_msa_cam(tmp_path / "a.npy", VOC12, shape=SHAPE), cams)
    save_cam(tmp_path / "b.npy", cams, VOC12)
    for one, other in zip(*(load_quarter_cam(tmp_path / f"{name}.npy", VOC12) for name in "ab"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_image_without_classes_has_an_array_of_zeros(tmp_path):
    save_msa_cam(tmp_path / "a.npy", {}, VOC12, shape=SHAPE)
    assert load_cam(tmp_path / "a.npy", VOC12, shape=SHAPE) == {}


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (
            np.zeros((1, 20, *SHAPE), np.float32),
            r"MSA's array of floats \(1, 21, height, width\), found an array of float32 \(1, 20",
        ),
        (np.zeros((21, *SHAPE), np.float32), r"found an array of float32 \(21, 9, 14\)"),
        (np.zeros((2, 21, *SHAPE), np.float32), r"found an array of float32 \(2, 21"),
        (np.zeros((1, 21, *SHAPE), np.int64), r"found an array of int64"),
        (np.zeros((1, 21, 3, 4), np.float32), r"found an array of float32 \(1, 21, 3, 4\)"),
        (np.full((1, 21, *SHAPE), np.nan, np.float32), "not finite"),
        (np.full((1, 21, *SHAPE), 3, np.float32), "expected CAMs of 0 to 1, found values up to 3"),
    ],
)
def test_what_is_not_quite_it_is_refused(tmp_path, array, found):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=rf"a\.npy: .*{found}"):
        load_cam(tmp_path / "a.npy", VOC12, shape=SHAPE)


def test_our_dict_is_not_taken_for_it(tmp_path):
    save_cam(tmp_path / "a.npy", cams_of(3), VOC12)
    with pytest.raises(UserError, match=r"a\.npy: expected MSA's array of CAMs, found dict"):
        load_msa_cam(tmp_path / "a.npy", VOC12)
