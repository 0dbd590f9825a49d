"""CAMs as IRN writes them, at two sizes: written, read by any stage, and at a quarter of the size from any CAM dict."""

import numpy as np
import pytest
import torch

from tool.artifact import load_cam, save_cam
from tool.cli import UserError
from tool.irn_cam import load_irn_cam, load_quarter_cam, quarter, save_irn_cam
from voc12.classes import VOC12

SHAPE = (37, 50)


def random_cams(shape: tuple[int, int], classes: tuple[int, ...] = (3, 14)) -> dict[int, np.ndarray]:
    generator = np.random.default_rng(sum(shape))
    return {index: generator.random(shape, dtype=np.float32) for index in classes}


def test_a_side_of_a_quarter_begins_every_fourth_pixel():
    assert [quarter((side, 1))[0] for side in range(1, 10)] == [len(range(side)[::4]) for side in range(1, 10)]


def test_what_is_written_is_plain_numpy_and_comes_back_at_both_sizes(tmp_path):
    small, whole = random_cams((10, 13)), random_cams(SHAPE)
    save_irn_cam(tmp_path / "a.npy", small, whole, VOC12)
    plain = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert {name: (value.dtype, value.shape) for name, value in plain.items()} == {
        "keys": (np.int64, (2,)), "cam": (np.float32, (2, 10, 13)), "high_res": (np.float32, (2, *SHAPE)),
    }  # fmt: skip
    keys, cam, high_res = load_irn_cam(tmp_path / "a.npy", VOC12, shape=SHAPE)
    assert keys.tolist() == [3, 14]
    np.testing.assert_array_equal(cam, np.stack([*small.values()]))
    np.testing.assert_array_equal(high_res, np.stack([*whole.values()]))
    assert {index: cam.tolist() for index, cam in load_cam(tmp_path / "a.npy", VOC12).items()} == {
        index: cam.tolist() for index, cam in whole.items()
    }
    quarter_keys, quarter_cam = load_quarter_cam(tmp_path / "a.npy", VOC12)
    assert quarter_keys.dtype == np.int64 and quarter_keys.tolist() == [3, 14]
    np.testing.assert_array_equal(quarter_cam, cam)


def test_the_released_dict_with_torch_tensors_gives_its_own_quarter_even_in_another_order(tmp_path):
    small, whole = random_cams((10, 13)), random_cams(SHAPE)
    value = {
        "keys": torch.tensor([14, 3]),
        "cam": torch.tensor(np.stack([small[14], small[3]])),
        "high_res": np.stack([whole[14], whole[3]]),
    }
    np.save(tmp_path / "a.npy", value, allow_pickle=True)
    keys, cam = load_quarter_cam(tmp_path / "a.npy", VOC12)
    assert keys.tolist() == [3, 14]
    np.testing.assert_array_equal(cam, np.stack([small[3], small[14]]))


def test_a_dict_by_class_is_resized_without_aligned_corners(tmp_path):
    cams = random_cams((8, 12))
    save_cam(tmp_path / "a.npy", cams, VOC12)
    keys, cam = load_quarter_cam(tmp_path / "a.npy", VOC12)
    assert keys.dtype == np.int64 and keys.tolist() == [3, 14] and cam.dtype == np.float32 and cam.shape == (2, 2, 3)
    # A cell's centre lies between four pixels in the midst of its 4 x 4: so it is their mean.
    for found, whole in zip(cam, cams.values(), strict=True):
        expected = whole.reshape(2, 4, 3, 4)[:, 1:3, :, 1:3].mean((1, 3))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_image_without_classes_has_none_at_either_size(tmp_path):
    save_irn_cam(tmp_path / "a.npy", {}, {}, VOC12)
    save_cam(tmp_path / "b.npy", {}, VOC12)
    assert load_cam(tmp_path / "a.npy", VOC12) == {}
    for name in ("a.npy", "b.npy"):
        keys, cam = load_quarter_cam(tmp_path / name, VOC12)
        assert keys.dtype == np.int64 and len(keys) == len(cam) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cam": np.zeros((2, 9, 13), np.float32)}, "expected 10 x 13 .* found 9 x 13"),
        ({"cam": np.zeros((1, 10, 13), np.float32)}, r"expected IRN's CAMs, .* found \[3, 14\] and \(1, 10, 13\)"),
        ({"cam": np.full((2, 10, 13), np.nan, np.float32)}, "not finite"),
        ({"keys": np.array([3, 20])}, "found the key 20"),
    ],
)
def test_a_quarter_that_does_not_fit_its_image_is_refused(change, message, tmp_path):
    save_irn_cam(tmp_path / "a.npy", random_cams((10, 13)), random_cams(SHAPE), VOC12)
    value = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    np.save(tmp_path / "a.npy", {**value, **change}, allow_pickle=True)
    with pytest.raises(UserError, match=rf"a\.npy: .*{message}"):
        load_quarter_cam(tmp_path / "a.npy", VOC12)


def test_other_dicts_are_no_whole_dict_of_irn(tmp_path):
    save_cam(tmp_path / "a.npy", random_cams(SHAPE), VOC12)
    with pytest.raises(UserError, match=r"a\.npy: expected IRN's CAMs, keys, cam and high_res, found 3, 14"):
        load_irn_cam(tmp_path / "a.npy", VOC12)
    with pytest.raises(UserError, match="the same classes at both sizes"):
        save_irn_cam(tmp_path / "b.npy", random_cams((10, 13), (3, 4)), random_cams(SHAPE), VOC12)
    assert not (tmp_path / "b.npy").exists()
