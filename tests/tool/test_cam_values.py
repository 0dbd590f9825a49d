"""Which values a CAM dict may hold."""

import numpy as np
import pytest

from tool.artifact import load_cam, save_cam
from tool.cli import UserError
from tool.pickled import write_pickled
from voc12.classes import VOC12


@pytest.mark.parametrize(("highest", "found"), [(255, "255"), (1.002, "1.002")])
@pytest.mark.parametrize("form", ["ours", "IRN's"])
def test_cams_above_1_are_refused(tmp_path, highest, found, form):
    cams = np.array([[0.5, highest]], np.float32)
    with open(tmp_path / "a.npy", "wb") as file:
        write_pickled(file, {1: cams} if form == "ours" else {"keys": np.array([1]), "high_res": cams[None]})
    with pytest.raises(UserError, match=f"a.npy: expected CAMs of 0 to 1, found values up to {found}$"):
        load_cam(tmp_path / "a.npy", VOC12)


def test_what_normalisation_and_rounding_make_of_cams_is_no_mistake(tmp_path):
    """Min-max normalisation leaves what it zeroed negative, far below 0 where a map is nearly flat (**Q**)."""
    cams = np.array([[-39, -1e-5, 1.0004]], np.float16).astype(np.float32)
    save_cam(tmp_path / "a.npy", {1: cams}, VOC12)
    assert np.array_equal(load_cam(tmp_path / "a.npy", VOC12)[1], cams)
