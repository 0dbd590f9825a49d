"""The seeds of SEAM, PPC and PPC on EPS, their CRFs, and what AffinityNet makes of them, against those of the released
code."""

from argparse import Namespace
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from data.images import load_rgb
from data.labels import load_labels
from method import METHODS
from method.base import NetFlags
from network.affinity import build_affinity_net
from network.weights import load_released_state_dict, released_state_dict
from refine.affinity.prepare import recipes
from refine.affinity.walked import WalkRecipe, label_map, sharpened, walked_scores
from tests.golden_inputs import fill
from tests.needs import needs_pydensecrf
from tool.artifact import load_cam, save_cam
from tool.cam import multi_scale_cam, seed_labels
from tool.crf import crf_seed
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
STEP = np.s_[::3, ::3]
BACKENDS = [pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"]


def fill_net(net: nn.Module, salt: str) -> None:
    state = {name: fill(name, tuple(value.shape), salt) for name, value in released_state_dict(net).items()}
    load_released_state_dict(net, state, source="the golden numbers")


@pytest.fixture(scope="module")
def images(golden):
    """Of each golden image: its pixels, its classes and the released files."""
    labels = load_labels(golden / "inference" / "cls_labels.npy", VOC12)
    found = {}
    for path in sorted((golden / "ppc" / "inference").glob("*.npz")):
        with np.load(path) as file:
            image = load_rgb(golden / "inference" / "images" / f"{path.stem}.jpg")
            found[path.stem] = (image, np.flatnonzero(labels[path.stem]).tolist(), dict(file))
    return found


@pytest.fixture(scope="module")
def cams(images, ppc_meta, golden_device, tmp_path_factory):
    """CAM dicts by method and image, after a trip through a file; SEAM's are PPC's."""
    made = {}
    folder = tmp_path_factory.mktemp("cams")
    for name in ("ppc", "ppc_eps"):
        method = METHODS[name]
        learner = method.learner(method.configure(None), NetFlags(), VOC12, device=golden_device)
        fill_net(learner.net, ppc_meta["salt"])
        maps = partial(learner.eval().maps, device=golden_device)
        for image_id, (image, classes, _) in images.items():
            of_image = multi_scale_cam(maps, image, classes, recipe=method.seeds, device=golden_device)
            save_cam(folder / f"{image_id}.npy", of_image, VOC12)
            made[name, image_id] = load_cam(folder / f"{image_id}.npy", VOC12)
    return made


@pytest.mark.parametrize(("method", "prefix"), [("ppc", ""), ("ppc_eps", "eps_")])
def test_cams_and_label_maps(method, prefix, images, cams):
    assert images
    for image_id, (image, classes, expected) in images.items():
        found = cams[method, image_id]
        assert list(found) == classes
        for index, cam in found.items():
            np.testing.assert_allclose(cam[STEP], expected[f"{prefix}cam_{index}"], rtol=0, atol=5e-3)
        labels = seed_labels(found, threshold=METHODS[method].seeds.threshold, shape=(image.height, image.width))
        assert (labels == expected[f"{prefix}png"]).mean() >= 0.995


def crf_labels(posteriors: dict) -> np.ndarray:
    return np.array(list(posteriors))[np.stack(list(posteriors.values())).argmax(0)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_crf_of_ppc_is_of_labels(backend, images, cams):
    (recipe,) = METHODS["ppc"].seeds.crf
    for image_id, (image, _, expected) in images.items():
        found = crf_seed(np.asarray(image), cams["ppc", image_id], recipe=recipe, num_classes=20, backend=backend)
        assert (crf_labels(found) == expected["crf_png"]).mean() >= 0.995


@pytest.mark.parametrize(
    ("method", "alpha", "prefix"),
    [
        ("seam", 4, "seam_crf_4"),
        ("seam", 24, "seam_crf_24"),
        ("ppc_eps", 8, "eps_crf_t5_a8"),
        ("ppc_eps", 1, "eps_crf_t5_a1"),
    ],
)
def test_the_soft_crfs(method, alpha, prefix, images, cams):
    recipe = replace(METHODS[method].seeds.crf[0], alpha=alpha)
    for image_id, (image, classes, expected) in images.items():
        of = cams["ppc" if method == "seam" else method, image_id]
        found = crf_seed(np.asarray(image), of, recipe=recipe, num_classes=20)
        assert list(found) == [0, *(index + 1 for index in classes)]
        for label, scores in found.items():
            assert np.abs(scores[STEP] - expected[f"{prefix}_{label}"].astype(np.float32)).mean() <= 2e-3
        if prefix == "eps_crf_t5_a1":
            assert (crf_labels(found) == expected["eps_pseudo_png"]).mean() >= 0.995


def test_the_defaults_are_the_released_variants():
    kernels = {name: METHODS[name].seeds.crf[0].kernels.bilateral_sxy for name in ("seam", "ppc", "ppc_eps")}
    assert kernels == {"seam": 80, "ppc": 50, "ppc_eps": 80}
    folders = {name: [crf.folder for crf in METHODS[name].seeds.crf] for name in kernels}
    assert folders == {"seam": ["crf_10_4", "crf_10_24"], "ppc": ["crf_10_thr0.26"], "ppc_eps": ["crf_5_8"]}


# -- AffinityNet -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def net(ppc_meta, golden_device):
    made = build_affinity_net()
    fill_net(made, ppc_meta["salt"])
    return made.to(golden_device).eval()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_posteriors_that_affinity_net_learns_from(backend, images, cams):
    flags = Namespace(data_set="voc12", alpha=[4.0, 24.0], crf_iters=10, out_crf=Path("crf"))
    for recipe, folder in recipes(flags).items():
        for image_id, (image, _, expected) in images.items():
            found = crf_seed(np.asarray(image), cams["ppc", image_id], recipe=recipe, num_classes=20, backend=backend)
            golden = [expected[f"prepare_{folder.name.removesuffix('.00')}_{label}"].astype(float) for label in found]
            for scores, of_label in zip(found.values(), golden, strict=True):
                assert np.abs(scores[STEP] - of_label).mean() <= 2e-3
            assert (np.stack(list(found.values())).argmax(0)[STEP] == np.stack(golden).argmax(0)).mean() >= 0.995


@pytest.mark.parametrize(("prefix", "background"), [("rw", 0.27), ("seam_rw", None)])
def test_the_walked_maps_and_masks(prefix, background, images, cams, net, golden_device):
    recipe = WalkRecipe(background=background)
    for image_id, (image, classes, expected) in images.items():
        found = walked_scores(net, image, cams["ppc", image_id], recipe=recipe, device=golden_device, amp="off")
        for label, scores in zip([0, *(index + 1 for index in classes)], found.cpu().numpy(), strict=True):
            part = scores[: image.height, : image.width][STEP]
            np.testing.assert_allclose(part, expected[f"{prefix}_{label}"].astype(np.float32), rtol=0, atol=5e-3)
        assert (label_map(found, classes, (image.height, image.width)) == expected[f"{prefix}_png"]).mean() >= 0.995


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_crf_behind_the_walk(backend, images, cams, net, golden_device):
    recipe = WalkRecipe(background=None)
    for image_id, (image, classes, expected) in images.items():
        walked = walked_scores(net, image, cams["ppc", image_id], recipe=recipe, device=golden_device, amp="off")
        options = {"num_labels": 21, "normalisation": net.normalisation, "backend": backend}
        found = sharpened(image, walked, classes, **options)
        for label, scores in zip([0, *(index + 1 for index in classes)], found.cpu().numpy(), strict=True):
            part = scores[: image.height, : image.width][STEP]
            assert np.abs(part - expected[f"seam_rw_crf_{label}"].astype(np.float32)).mean() <= 3e-3
        assert (label_map(found, classes, (image.height, image.width)) == expected["seam_rw_crf_png"]).mean() >= 0.995
