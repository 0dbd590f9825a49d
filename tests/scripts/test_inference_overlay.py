"""`inference.py --overlay`: a picture of each image, its CAMs and seeds, made of the files that are there."""

import cv2
import numpy as np
import pytest

from data.images import load_rgb
from tests.scripts.conftest import assert_succeeded, run, truncate
from tests.scripts.test_inference import QUICK, SCRIPT, written
from tool.artifact import load_cam, load_label_map
from tool.plot import overlay
from voc12.classes import VOC12


@pytest.fixture(scope="module")
def ids(data):
    return data.ids[:3]


@pytest.fixture(scope="module")
def flags(data, ids, undisturbed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlay")
    few = folder / "few.txt"
    few.write_text("\n".join(ids))
    return {
        **{**QUICK, **data.for_inference(), "--infer_list": few},
        **{"--weights": undisturbed / "hsc.pth", "--work_dir": folder / "exps"},
    }


def test_pictures_show_cams_and_seeds_and_lost_and_damaged_ones_are_drawn_again(flags, data, ids):
    folder = flags["--work_dir"]
    assert_succeeded(run(SCRIPT, flags))
    before = written(folder)
    assert not any(name.startswith("overlay/") for name in before)

    assert_succeeded(run(SCRIPT, {**flags, "--overlay": True}))
    pictures = {name: digest for name, digest in written(folder).items() if name not in before}
    assert set(pictures) == {"overlay/settings.json", *(f"overlay/{image_id}.png" for image_id in ids)}
    assert {name: digest for name, digest in written(folder).items() if name in before} == before
    image_id = ids[0]
    path = folder / "overlay" / f"{image_id}.png"
    label_maps = {
        title: load_label_map(folder / place / f"{image_id}.png", VOC12)
        for title, place in {"seed": "cam_png", "CRF 8, 7": "crf/crf_8_7"}.items()
    }
    image = np.asarray(load_rgb(data.images / f"{image_id}.jpg"))
    expected = overlay(image, load_cam(folder / "cam_npy" / f"{image_id}.npy", VOC12), label_maps, VOC12)
    np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], expected)

    path.unlink()
    truncate(folder / "overlay" / f"{ids[1]}.png", missing=30)
    assert_succeeded(run(SCRIPT, {**flags, "--overlay": True}))
    assert {name: digest for name, digest in written(folder).items() if name not in before} == pictures


def test_without_label_maps_the_rest_is_made(flags, ids, tmp_path):
    changed = {**flags, "--work_dir": tmp_path, "--cam_png": "none", "--overlay": True}
    for wanted, folders in (({"--crf_t": "none"}, {"cam_npy", "overlay"}), ({}, {"cam_npy", "overlay", "crf"})):
        assert_succeeded(run(SCRIPT, {**changed, **wanted, "--work_dir": tmp_path / str(len(folders))}))
        made = written(tmp_path / str(len(folders)))
        assert {name.split("/")[0] for name in made} == folders
        assert {f"overlay/{image_id}.png" for image_id in ids} <= {*made}
