"""CAM dicts are looked at before stage 2 starts: a note says how many show nothing."""

import numpy as np
from PIL import Image

from refine.inputs import check_cams
from tool.artifact import save_cam
from voc12.classes import VOC12


def test_maps_without_a_score_above_0_are_noted_and_images_without_a_class_are_not(tmp_path, capsys):
    images = {name: tmp_path / f"{name}.jpg" for name in ("seen", "flat", "empty")}
    for path in images.values():
        Image.new("RGB", (4, 3)).save(path)
    nothing = np.zeros((3, 4), np.float32)
    for name, cams in {"seen": {3: nothing, 5: nothing + 1}, "flat": {3: nothing, 5: nothing - 1}, "empty": {}}.items():
        save_cam(tmp_path / f"{name}.npy", cams, VOC12)
    check_cams(images, tmp_path, VOC12, flag="--cam_dir")
    (line,) = capsys.readouterr().err.splitlines()
    assert "of 3 CAM dicts that were looked at 1 have no score above 0, as flat.npy" in line
