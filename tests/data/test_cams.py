"""CAM dicts and posteriors are looked at before what is made of them: a note says how many show nothing."""

import numpy as np
import pytest
from PIL import Image

from data.cams import check_cams, folder_of_dicts
from tool.artifact import save_cam, save_crf
from tool.cli import UserError
from tool.lists import Source
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


def test_every_file_that_is_cut_off_is_named_before_the_work(tmp_path):
    ids = [f"{number:02}" for number in range(60)]
    maps = np.full((21, 9, 14), 1 / 21, np.float32)
    for image_id in ids[:30]:
        save_crf(tmp_path / f"{image_id}.npy", {0: maps[0] * 21}, VOC12)
    for image_id in ids[30:]:  # an array, as another program writes posteriors
        np.save(tmp_path / f"{image_id}.npy", maps)
    wanted = {"flag": "--la_crf_dir", "what": "CRF posteriors", "source": Source("--train_list", "ids.txt")}
    assert folder_of_dicts(tmp_path, ids, **wanted) == tmp_path
    for image_id, size in {"04": 0, "11": 100, "22": 500, "41": 500, "53": 90}.items():
        path = tmp_path / f"{image_id}.npy"
        path.write_bytes(path.read_bytes()[:size])
    (tmp_path / "58.npy").write_text("no array")
    with pytest.raises(UserError) as refused:
        folder_of_dicts(tmp_path, ids, **wanted)
    first, *named = str(refused.value).splitlines()
    assert first.startswith(f"--la_crf_dir {tmp_path}: CRF posteriors of --train_list ids.txt that are cut off")
    assert named == [f"  {image_id}.npy" for image_id in ("04", "11", "22", "41", "53", "58")]
