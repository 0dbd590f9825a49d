"""MSA's seeds from JPEG to file, of both evaluators and of the baseline, their label maps and the sweep of thresholds,
against those of the released code."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from data.images import load_rgb
from data.labels import load_labels
from data.score_table import result_lines, summarise
from method import METHODS
from method.msa.config import CONFIGS
from method.msa.learner import MSALearner
from method.superpixels import Superpixels
from tests.network.test_msa import filled
from tests.superpixel.golden_net import filled_scn
from tool.cam import BACKGROUND, multi_scale_cam, seed_labels
from tool.metric import threshold_counts
from tool.msa_cam import load_msa_cam, save_msa_cam
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
METHOD_OF = {"image": "msa_image", "saliency": "msa_sal", "cam": "msa_image"}


class Evaluator:
    """The filled nets on the golden images; maps are computed once for both evaluators, which share the net."""

    def __init__(self, golden, meta: dict, device: torch.device, folder) -> None:
        self.meta, self.device, self.folder = meta, device, folder
        self.inputs, self.golden = golden / "inference" / "images", golden / "msa" / "inference"
        labels = load_labels(self.golden / "cls_labels.npy", VOC12)
        self.classes = {image_id: np.flatnonzero(label).tolist() for image_id, label in labels.items()}
        self.scn = filled_scn(meta["salt"], device).requires_grad_(False)
        self.learner, self.maps = cache(self._learner), cache(self._maps)

    def _learner(self, is_baseline: bool) -> MSALearner:
        config = replace(CONFIGS["msa_image"], steps=self.meta["beta"], threshold=self.meta["gama"])
        net = filled("cam" if is_baseline else "association", self.meta, self.device)
        learner = MSALearner(net, replace(config, sp_cam=not is_baseline), VOC12).eval().requires_grad_(False)
        learner.superpixels = None if is_baseline else Superpixels(self.scn)
        return learner

    def _maps(self, is_baseline: bool, image_id: str, scale: float) -> torch.Tensor:
        wanted = torch.tensor([BACKGROUND, *self.classes[image_id]], device=self.device)
        return self.learner(is_baseline).maps(self.image(image_id), scale, wanted, self.device)

    def image(self, image_id: str) -> Image.Image:
        return load_rgb(self.inputs / f"{image_id}.jpg")

    def files(self, kind: str) -> list[str]:
        return sorted(path.stem.removeprefix(f"{kind}_") for path in self.golden.glob(f"{kind}_*.npz"))

    def cams(self, kind: str, image_id: str) -> dict[int, np.ndarray]:
        """With background's, after a trip through MSA's form of a file."""

        def maps(image, scale, wanted):
            return self.maps(kind == "cam", image_id, scale)

        image, recipe = self.image(image_id), METHODS[METHOD_OF[kind]].seeds
        wanted = [BACKGROUND, *self.classes[image_id]]
        found = multi_scale_cam(maps, image, wanted, recipe=recipe, device=self.device)
        path, background, shape = self.folder / f"{image_id}.npy", found.pop(BACKGROUND), image.size[::-1]
        save_msa_cam(path, found, VOC12, shape=shape, background=background)
        return {BACKGROUND: np.load(path)[0, 0], **load_msa_cam(path, VOC12, shape=shape)}


@pytest.fixture(scope="module")
def evaluator(golden, msa_meta, golden_device, tmp_path_factory):
    return Evaluator(golden, msa_meta, golden_device, tmp_path_factory.mktemp("msa"))


@pytest.mark.parametrize("kind", METHOD_OF)
def test_cams_and_label_maps(kind, evaluator):
    ids = evaluator.files(kind)
    assert ids
    for image_id in ids:
        with np.load(evaluator.golden / f"{kind}_{image_id}.npz") as file:
            expected = dict(file)
        found = evaluator.cams(kind, image_id)
        for name in (name for name in expected if name.startswith("cam_")):
            label = int(name.removeprefix("cam_"))
            cam = found.get(label - 1, np.zeros_like(expected[name]))  # a map that is 0 everywhere is no class's
            np.testing.assert_allclose(cam, expected[name].astype(np.float32), rtol=0, atol=2e-3)
        cams = {index: cam for index, cam in found.items() if index != BACKGROUND}
        for threshold, labels in zip(evaluator.meta["thresholds"], expected.get("labels", ()), strict=False):
            assert (seed_labels(cams, threshold=threshold, shape=labels.shape) == labels).mean() >= 0.995
        if "palette" in expected:
            np.testing.assert_array_equal(VOC12.palette.ravel()[:63], expected["palette"])


@pytest.mark.parametrize("kind", ["image", "saliency"])
def test_the_sweep(kind, evaluator):
    thresholds, counts = evaluator.meta["thresholds"], 0
    for image_id in evaluator.files("image"):
        with np.load(evaluator.golden / f"image_{image_id}.npz") as file:
            truth = file["gt"]
        cams = {index: cam for index, cam in evaluator.cams(kind, image_id).items() if index != BACKGROUND}
        counts = counts + threshold_counts(cams, truth, thresholds=thresholds, num_labels=21)
    summary = summarise(counts, VOC12, thresholds=thresholds)
    golden = json.loads((evaluator.golden / "sweep.json").read_text())
    expected = golden["mIoU"][kind]
    assert summary["thresholds"] == [threshold for threshold, _ in expected]
    np.testing.assert_allclose(summary["curve"], [mean for _, mean in expected], rtol=0, atol=0.05)
    assert summary["best_first"][0] == (max(summary["curve"]), (0, summary["best_threshold"]))
    if kind == "image":
        lines = result_lines(summary, 0).split("\n")
        assert lines[: len(golden["result_txt"])] == golden["result_txt"]
