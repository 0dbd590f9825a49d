"""What was made of a CAM dict with other classes than it has now is not taken for its own."""

import os

import numpy as np
import pytest

from refine.irn.inference import has_instances
from refine.stale import has_label_map_of_cams
from tool.artifact import save_cam, save_label_map
from tool.instances import Instances, save_instances
from voc12.classes import VOC12

SHAPE = (3, 4)
FLAT = np.full(SHAPE, 0.5, np.float32)


def made_of(folder, kind, classes):
    """The file of an image with these classes, from 0, and whether it is taken for its CAM dict's."""
    if kind == "instances":
        instances = Instances.none(SHAPE)
        for index in classes:
            instances.add(0.5, np.ones(SHAPE, bool), index)
        save_instances(folder / "made", instances)
        return lambda cams: has_instances(folder / "made", cams, VOC12, SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, : len(classes)] = np.array(classes) + 1
    labels[2] = 255
    save_label_map(folder / "made", labels, VOC12)
    return lambda cams: has_label_map_of_cams(folder / "made", cams, VOC12, SHAPE, ignore=True)


@pytest.mark.parametrize("kind", ["label map", "instances"])
@pytest.mark.parametrize(
    ("classes", "now", "older", "expected"),
    [
        ((3,), (3,), True, True),  # copied files have any age
        ((3,), (14,), False, False),
        ((3, 14), (3,), False, False),
        ((3,), (3, 14), True, False),
        ((3,), (3, 14), False, True),  # a walk may lose a class
        ((), (), True, True),
    ],
)
def test_a_file_of_other_classes_is_not_the_cam_dicts(tmp_path, kind, classes, now, older, expected):
    is_its_own = made_of(tmp_path, kind, classes)
    save_cam(tmp_path / "cams", dict.fromkeys(now, FLAT), VOC12)
    age = (tmp_path / "made").stat().st_mtime + (9 if older else -9)
    os.utime(tmp_path / "cams", (age, age))
    assert is_its_own(tmp_path / "cams") == expected


def test_of_a_cam_dict_that_cannot_be_read_nothing_is(tmp_path):
    (tmp_path / "cams").write_bytes(b"half")
    assert not made_of(tmp_path, "label map", ())(tmp_path / "cams")
