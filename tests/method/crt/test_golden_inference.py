"""CRT's seeds of either branch, from JPEG to file, and their scores, against those of the released code."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.images import load_rgb
from data.labels import load_labels
from data.score import count_images
from method import METHODS
from method.crt.config import CRTConfig
from method.crt.learner import CRTLearner
from tests.golden_inputs import uni
from tool.artifact import save_label_map
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


def scored_image(seed: int, i: int) -> tuple[list[int], torch.Tensor, np.ndarray]:
    """Of image i of eval.json its classes, smooth scores of background and these, and its truth."""
    size, classes = (30 + 3 * i, 44 - 2 * i), sorted({int(18 * value) for value in uni(seed + 140 + i, 3)})
    z = uni(seed + 150 + i, 1, len(classes) + 1, 5, 6)
    z = F.interpolate(z, size, mode="bilinear", align_corners=False)[0]
    truth = np.array([0, *(index + 1 for index in classes)], np.uint8)[z.argmax(0)]
    truth[:2] = 255
    return classes, z, truth


def assert_scores(counts: np.ndarray, expected: dict) -> None:
    known = len(expected["iou"])
    found = [share if there else None for share, there in zip(iou(counts).tolist(), occurs(counts), strict=True)]
    assert found[:known] == pytest.approx(expected["iou"], abs=1e-9) and not occurs(counts)[known:].any()
    assert iou(counts)[occurs(counts)].mean() == pytest.approx(expected["miou"], abs=1e-9)


def test_eval_cam(golden, crt_meta):
    expected = json.loads((golden / "crt" / "eval.json").read_text())
    counts = {0.15: 0, 0.3: 0}
    for i in range(expected["images"]):
        classes, z, truth = scored_image(crt_meta["seed"], i)
        cams = (0.4 * z[1:] + 0.3 * uni(crt_meta["seed"] + 160 + i, len(classes), *truth.shape) - 0.2).relu().numpy()
        for threshold in counts:
            found = seed_labels(dict(zip(classes, cams, strict=True)), threshold=threshold, shape=truth.shape)
            counts[threshold] = counts[threshold] + label_counts(found, truth, num_labels=21)
    for threshold, of in counts.items():
        assert_scores(of, expected[f"cam_{threshold:g}"])


def test_eval_sem_seg(golden, crt_meta, tmp_path):
    """Its masks have 255, which counts as background."""
    expected = json.loads((golden / "crt" / "eval.json").read_text())
    seed, pairs = crt_meta["seed"], []
    for i in range(expected["images"]):
        _, _, truth = scored_image(seed, i)
        drawn = (uni(seed + 170 + i, *truth.shape) * (20 if i else 19)).floor().numpy().astype(np.uint8)
        agrees = (uni(seed + 180 + i, *truth.shape) < 0.7).numpy()
        mask = np.where(agrees, np.where(truth == 255, 0, truth), drawn).astype(np.uint8)
        mask[-2:] = 255
        pairs.append((tmp_path / f"{i}.png", tmp_path / f"true {i}.png"))
        for path, labels in zip(pairs[-1], (mask, truth), strict=True):
            save_label_map(path, labels, VOC12)
    counts, _ = count_images(pairs, "png", VOC12, num_workers=1, of_255="background")
    assert_scores(counts[:, 0], expected["sem_seg"])
