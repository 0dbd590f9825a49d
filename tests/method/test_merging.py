"""The mean of runs' CAM dicts."""

import numpy as np
import pytest
from PIL import Image

from method.merging import mean_cam, merge_missing
from method.outputs import Outputs
from tool.artifact import load_label_map, save_cam
from tool.cli import UserError
from tool.per_image import Processes
from voc12.classes import VOC12


def test_a_run_that_is_silent_about_a_class_counts_as_0_and_a_run_alone_stays_as_it_is(tmp_path):
    seen = np.array([[0.9, 0.2], [0.0, 0.5]], np.float32)
    silent = np.full((2, 2), -1, np.float32)
    for name, cam in {"seen": seen, "silent": silent}.items():
        save_cam(tmp_path / f"{name}.npy", {3: cam}, VOC12)
    paths = [tmp_path / "silent.npy", tmp_path / "seen.npy"]
    for order in (paths, paths[::-1]):
        np.testing.assert_allclose(mean_cam(order, VOC12)[3], seen / 2, atol=1e-7)
    np.testing.assert_array_equal(mean_cam(paths[:1], VOC12)[3], silent)


def test_a_damaged_cam_dict_costs_its_image_alone(tmp_path):
    cams, images = tmp_path / "cams", {}
    outputs = Outputs(tmp_path / "cam_npy", tmp_path / "cam_png", {}, None, 0.3, VOC12)
    for folder in (cams, *outputs.folders):
        folder.mkdir()
    for image_id in ("first", "second", "third"):
        images[image_id] = tmp_path / f"{image_id}.jpg"
        Image.new("RGB", (4, 2)).save(images[image_id])
        save_cam(cams / f"{image_id}.npy", {3: np.full((2, 4), 0.5, np.float32)}, VOC12)
    for image_id in ("first", "third"):
        content = (cams / f"{image_id}.npy").read_bytes()
        (cams / f"{image_id}.npy").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as refused:
        merge_missing(images, [cams], outputs, Processes(["cpu"], "torch", 1))
    message = str(refused.value)
    assert message.startswith("images that gave no seeds; the others are done (2):")
    assert all(f"{cams / image_id}.npy: " in message for image_id in ("first", "third"))
    assert np.array_equal(load_label_map(tmp_path / "cam_png" / "second.png", VOC12), np.full((2, 4), 4))
