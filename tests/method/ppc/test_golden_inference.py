"""The seeds of SEAM, PPC and PPC on EPS, and their CRFs, against those of the released code."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from data.images import load_rgb
from data.labels import load_labels
from method import METHODS
from method.base import NetFlags
from network.weights import load_released_state_dict, released_state_dict
from tests.golden_inputs import fill
from tests.needs import needs_pydensecrf
from tool.artifact import load_cam, save_cam
from tool.cam import multi_scale_cam, seed_labels
from tool.crf import crf_seed
from voc12.classes import VOC12

pytestmark = pytest.mark.golden
STEP = np.s_[::3, ::3]


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
        state = {n: fill(n, tuple(v.shape), ppc_meta["salt"]) for n, v in released_state_dict(learner.net).items()}
        load_released_state_dict(learner.net, state, source="the golden numbers")
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


@pytest.mark.parametrize("backend", [pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"])
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
