"""The mean of runs' CAM dicts."""

import numpy as np

from method.merging import mean_cam
from tool.artifact import save_cam
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
