"""CRT's seeds of either branch, from JPEG to file, and their scores, against those of the released code."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.images import load_rgb
from data.labels import load_labels
from method import METHODS
from method.crt.config import CRTConfig
from method.crt.learner import CRTLearner
from tests.golden_inputs import uni
from tool.cam import seed_labels, two_size_cam
from tool.irn_cam import load_irn_cam, load_quarter_cam, save_irn_cam
from tool.metric import iou, label_counts, occurs
from voc12.classes import VOC12

pytestmark = pytest.mark.golden


@pytest.mark.parametrize(("branch", "prefix"), [("transformer", "deit"), ("cnn", "cnn")])
def test_cams_at_both_sizes(branch, prefix, crt_net, golden, golden_device, tmp_path, monkeypatch):
    learner = CRTLearner(crt_net, CRTConfig(), VOC12).eval()
    monkeypatch.setattr(crt_net, "branch", branch)
    labels = load_labels(golden / "inference" / "cls_labels.npy", VOC12)
    paths = sorted((golden / "crt" / "inference").glob("*.npz"))
    assert paths
    for path in paths:
        with np.load(path) as file:
            expected = dict(file)
        image = load_rgb(golden / "inference" / "images" / f"{path.stem}.jpg")
        classes = np.flatnonzero(labels[path.stem]).tolist()
        maps = partial(learner.maps, device=golden_device)
        whole, small = two_size_cam(maps, image, classes, recipe=METHODS["crt"].seeds, device=golden_device)
        save_irn_cam(tmp_path / f"{path.stem}.npy", small, whole, VOC12)
        keys, cam, high_res = load_irn_cam(tmp_path / f"{path.stem}.npy", VOC12, shape=(image.height, image.width))
        np.testing.assert_array_equal(keys, expected[f"{prefix}_keys"])
        np.testing.assert_allclose(cam, expected[f"{prefix}_cam"], rtol=0, atol=2e-3)
        np.testing.assert_allclose(high_res[:, ::3, ::3], expected[f"{prefix}_high_res"], rtol=0, atol=2e-3)
        np.testing.assert_array_equal(load_quarter_cam(tmp_path / f"{path.stem}.npy", VOC12)[1], cam)


def test_eval_cam(golden, crt_meta):
    expected = json.loads((golden / "crt" / "eval.json").read_text())

    def smooth(seed: int, channels: int, height: int, width: int) -> torch.Tensor:
        return F.interpolate(uni(seed, 1, channels, 5, 6), (height, width), mode="bilinear", align_corners=False)[0]

    counts = {0.15: 0, 0.3: 0}
    for i in range(expected["images"]):
        height, width = 30 + 3 * i, 44 - 2 * i
        seed = crt_meta["seed"]
        classes = sorted({int(18 * value) for value in uni(seed + 140 + i, 3)})
        z = smooth(seed + 150 + i, len(classes) + 1, height, width)
        truth = np.array([0, *(index + 1 for index in classes)], np.uint8)[z.argmax(0)]
        truth[:2] = 255
        cams = (0.4 * z[1:] + 0.3 * uni(seed + 160 + i, len(classes), height, width) - 0.2).relu().numpy()
        for threshold in counts:
            found = seed_labels(dict(zip(classes, cams, strict=True)), threshold=threshold, shape=(height, width))
            counts[threshold] = counts[threshold] + label_counts(found, truth, num_labels=21)
    for threshold, of in counts.items():
        golden_iou = expected[f"cam_{threshold:g}"]["iou"]
        found = [share if there else None for share, there in zip(iou(of).tolist(), occurs(of), strict=True)]
        assert (
            found[: len(golden_iou)] == pytest.approx(golden_iou, abs=1e-9) and not occurs(of)[len(golden_iou) :].any()
        )
        assert iou(of)[occurs(of)].mean() == pytest.approx(expected[f"cam_{threshold:g}"]["miou"], abs=1e-9)
