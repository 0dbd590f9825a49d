"""The dense CRFs of training, seeds and the test stage give the golden numbers with either backend, which agree."""

import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.needs import needs_pydensecrf
from tool.cli import UserError
from tool.crf import crf_from_labels, crf_from_probability, crf_seed, resolve_backend
from tool.crf.mean_field import mean_field
from tool.seed_recipe import SEED_KERNELS, CRFKernels, CRFRecipe

TRAINING_KERNELS = CRFKernels(
    gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=50, bilateral_srgb=5, bilateral_compat=10
)
TEST_KERNELS = CRFKernels(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)
KERNELS = {"seeds": SEED_KERNELS, "training": TRAINING_KERNELS, "test": TEST_KERNELS}


@pytest.fixture(params=[pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"])
def backend(request):
    return request.param


def random_image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def smooth_image(shape, seed=0):
    """Patches of colour with noise, nearer to photographs than noise alone."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (shape[0] // 10 + 2, shape[1] // 10 + 2, 3)).astype(np.uint8)
    image = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) + generator.normal(0, 6, (*shape, 3))
    return image.clip(0, 255).astype(np.uint8)


def random_probability(labels, shape, seed=0):
    """Probabilities that are sure of one label in some places and of none in others."""
    generator = np.random.default_rng(seed)
    coarse = generator.random((shape[0] // 8 + 2, shape[1] // 8 + 2, labels), dtype=np.float32) ** 4
    scores = np.stack([cv2.resize(coarse[..., label], shape[::-1]) for label in range(labels)])
    return scores / scores.sum(0).clip(1e-6)


def random_cams(shape, *classes, seed=0):
    generator = np.random.default_rng(seed)
    return {c: generator.random(shape, dtype=np.float32) for c in classes}


def posterior_of(image, probability, **options):
    return crf_from_probability(torch.tensor(image), torch.tensor(probability), **options).numpy()


def refined(image, labels, backend, *, num_labels=3, iterations=2):
    (labels,) = crf_from_labels(
        torch.tensor(image)[None],
        torch.tensor(labels)[None],
        num_labels=num_labels,
        gt_prob=0.7,
        kernels=TRAINING_KERNELS,
        iterations=iterations,
        backend=backend,
    )
    return labels.numpy()


# -- the golden numbers ------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_training_labels_are_refined_as_in_the_golden_numbers(golden, golden_device, backend):
    with np.load(golden / "pseudo_label_crf.npz") as data:
        images, labels, expected = data["image"], data["label"], data["refined"]
    found = crf_from_labels(
        torch.from_numpy(images).to(golden_device),
        torch.from_numpy(labels).to(golden_device),
        num_labels=21,
        gt_prob=0.7,
        kernels=TRAINING_KERNELS,
        iterations=10,
        backend=backend,
    )
    assert (found.cpu().numpy() == expected).mean() >= 0.995
    assert (labels != expected).mean() > 0.05  # the CRF had something to do


@pytest.mark.golden
def test_test_stage_labels_are_those_of_the_golden_numbers(golden, golden_device, backend):
    with np.load(golden / "deeplabv2.npz") as data:
        image, probability, expected = data["crf_image"], data["crf_probability"], data["crf_out_label"]
    # As the arrays come: a view with the channels moved, which pydensecrf could not read.
    posterior = crf_from_probability(
        torch.from_numpy(image).to(golden_device).permute(1, 2, 0),
        torch.from_numpy(probability).to(golden_device),
        kernels=TEST_KERNELS,
        iterations=10,
        backend=backend,
    )
    assert (posterior.argmax(0).cpu().numpy() == expected).mean() >= 0.995


@pytest.mark.golden
def test_seed_posteriors_are_those_of_the_golden_numbers(golden, golden_device, backend):
    files = sorted((golden / "inference").glob("*.npz"))
    assert files
    for file in files:
        with np.load(file) as data:
            cams = {int(key.removeprefix("cam_")): data[key] for key in data.files if key.startswith("cam_")}
            prefix = "crf_t8_a7_"
            expected = {int(key.removeprefix(prefix)): data[key] for key in data.files if key.startswith(prefix)}
        image = np.array(Image.open(golden / "inference" / "images" / f"{file.stem}.jpg").convert("RGB"))
        posterior = crf_seed(image, cams, recipe=CRFRecipe(8, 7), num_classes=20, backend=backend, device=golden_device)
        assert sorted(posterior) == sorted(expected)
        for label, scores in expected.items():
            assert posterior[label].dtype == np.float32
            np.testing.assert_allclose(posterior[label], scores.astype(np.float32), rtol=0, atol=2e-3)


# -- the backends agree ------------------------------------------------------------------------------------------------


@needs_pydensecrf
@pytest.mark.parametrize("labels", [2, 5, 21, 81])
@pytest.mark.parametrize("shape", [(16, 16), (23, 57), (90, 60)])
@pytest.mark.parametrize("kernels", KERNELS)
def test_torch_gives_pydensecrfs_posteriors(kernels, shape, labels):
    image, probability = smooth_image(shape), random_probability(labels, shape)
    ours, theirs = (
        posterior_of(image, probability, kernels=KERNELS[kernels], iterations=10, backend=backend)
        for backend in ("torch", "pydensecrf")
    )
    assert np.abs(ours - theirs).mean() < 1e-5
    assert (ours.argmax(0) == theirs.argmax(0)).mean() >= 0.999
    assert (theirs.argmax(0) != probability.argmax(0)).any()


@needs_pydensecrf
def test_torch_gives_pydensecrfs_posteriors_at_full_size():
    image, probability = smooth_image((375, 500)), random_probability(4, (375, 500))
    ours, theirs = (
        posterior_of(image, probability, kernels=SEED_KERNELS, iterations=3, backend=backend)
        for backend in ("torch", "pydensecrf")
    )
    assert np.abs(ours - theirs).mean() < 1e-5
    assert (ours.argmax(0) == theirs.argmax(0)).mean() >= 0.9999


@needs_pydensecrf
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (2, 3)])
def test_the_backends_agree_on_the_smallest_images(shape):
    image, probability = random_image(shape), np.random.default_rng(0).dirichlet(np.ones(3), shape)
    ours, theirs = (
        posterior_of(image, probability.transpose(2, 0, 1), kernels=SEED_KERNELS, iterations=4, backend=backend)
        for backend in ("torch", "pydensecrf")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@needs_pydensecrf
@pytest.mark.parametrize("shape", [(32, 50), (33, 49), (33, 50), (33, 51)])
def test_the_backends_agree_on_dark_images_of_any_number_of_pixels(shape):
    # pydensecrf counts pixels by fours; what it fills up the last four with lies at black, in the upper left corner.
    image = random_image(shape) // 16 + 10
    probability = random_probability(3, shape)
    ours, theirs = (
        posterior_of(image, probability, kernels=SEED_KERNELS, iterations=3, backend=backend)
        for backend in ("torch", "pydensecrf")
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_labels_that_no_pixel_has_are_merged_without_a_trace():
    """Against all 21 labels, each by itself: what training leaves out changes nothing."""
    images = torch.from_numpy(np.stack([smooth_image((24, 24), seed) for seed in range(4)]))
    labels = torch.from_numpy(
        np.stack([random_probability(count, (24, 24), count).argmax(0) * 3 for count in (1, 2, 4, 6)])
    )
    unary = torch.full((4, 21, 24, 24), -np.log(0.3 / 20)).scatter_(1, labels[:, None], -np.log(0.7))
    expected = mean_field(images, unary, kernels=TRAINING_KERNELS, iterations=10).argmax(1)
    found = crf_from_labels(
        images, labels, num_labels=21, gt_prob=0.7, kernels=TRAINING_KERNELS, iterations=10, backend="torch"
    )
    assert torch.equal(found, expected)
    assert (found != labels).any()


@needs_pydensecrf
@pytest.mark.parametrize("lowest", [0, 0.003])
def test_labels_that_score_the_least_everywhere_are_merged_without_a_trace(lowest):
    image, scores = smooth_image((30, 40)), random_probability(21, (30, 40)).clip(lowest)
    scores[[0, 3, 4, 20]] = lowest
    ours, theirs = (
        posterior_of(image, scores, kernels=TEST_KERNELS, iterations=10, backend=backend)
        for backend in ("torch", "pydensecrf")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(ours.sum(0), 1, atol=1e-5)


# -- the choice of a backend -------------------------------------------------------------------------------------------


@needs_pydensecrf
def test_auto_takes_pydensecrf_on_a_cpu_and_torch_on_a_gpu_and_where_there_is_nothing_else(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [resolve_backend("auto", device) for device in (cpu, gpu)] == ["pydensecrf", "torch"]
    assert [resolve_backend(name, cpu) for name in ("pydensecrf", "torch")] == ["pydensecrf", "torch"]
    monkeypatch.setitem(sys.modules, "pydensecrf", None)  # as where it is not installed
    assert resolve_backend("auto", cpu) == "torch"
    with pytest.raises(UserError, match=r"--crf_backend pydensecrf: .*not installed; pip install pydensecrf2"):
        resolve_backend("pydensecrf", cpu)


# -- shapes and values -------------------------------------------------------------------------------------------------


def test_background_scores_the_complement_of_the_best_class_to_the_power_alpha(backend):
    image = random_image((6, 8))
    cams = random_cams((6, 8), 14, 2)
    scores = np.stack([(1 - np.maximum(cams[2], cams[14])) ** 3, cams[2], cams[14]])
    expected = posterior_of(image, scores, kernels=SEED_KERNELS, iterations=2, backend=backend)
    posterior = crf_seed(image, cams, recipe=CRFRecipe(2, 3), num_classes=20, backend=backend)
    assert list(posterior) == [0, 3, 15]
    np.testing.assert_allclose(np.stack(list(posterior.values())), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (9, 4)])
@pytest.mark.parametrize("classes", [(), (0,), (0, 19)])
def test_posteriors_of_images_of_any_size_sum_to_1(shape, classes, backend):
    cams = random_cams(shape, *classes)
    posterior = crf_seed(random_image(shape), cams, recipe=CRFRecipe(3, 7), num_classes=20, backend=backend)
    assert list(posterior) == [0, *(c + 1 for c in classes)]
    for scores in posterior.values():
        assert scores.shape == shape and scores.dtype == np.float32
    np.testing.assert_allclose(sum(posterior.values()), 1, atol=1e-5)


def test_an_image_without_classes_is_background():
    (posterior,) = crf_seed(random_image((3, 4)), {}, recipe=CRFRecipe(8, 7), num_classes=20).values()
    np.testing.assert_array_equal(posterior, np.ones((3, 4), np.float32))


def test_a_label_map_may_stand_for_the_scores_and_all_labels_take_part(backend):
    """The hard unary of PPC and IRN: each label right with a certainty, the others share the rest, absent ones too."""
    image, cams = random_image((6, 8)), random_cams((6, 8), 14, 2)
    scores = np.stack([np.full((6, 8), 0.4, np.float32), cams[2], cams[14]])
    hard = np.full((21, 6, 8), 0.3 / 20, np.float32)
    np.put_along_axis(hard, np.array([0, 3, 15])[scores.argmax(0)][None], 0.7, axis=0)
    expected = posterior_of(image, hard, kernels=TEST_KERNELS, iterations=4, backend=backend)
    recipe = CRFRecipe(4, threshold=0.4, certainty=0.7, all_labels=True, kernels=TEST_KERNELS)
    posterior = crf_seed(image, cams, recipe=recipe, num_classes=20, backend=backend)
    assert list(posterior) == [0, 3, 15]
    shares = expected[[0, 3, 15]] / expected[[0, 3, 15]].sum(axis=0)  # a file's posteriors sum to 1
    np.testing.assert_allclose(np.stack(list(posterior.values())), shares, atol=1e-6)

    of_image = np.full((3, 6, 8), 0.3 / 2, np.float32)
    np.put_along_axis(of_image, scores.argmax(0)[None], 0.7, axis=0)
    expected = posterior_of(image, of_image, kernels=SEED_KERNELS, iterations=4, backend=backend)
    posterior = crf_seed(
        image, cams, recipe=CRFRecipe(4, threshold=0.4, certainty=0.7), num_classes=20, backend=backend
    )
    np.testing.assert_allclose(np.stack(list(posterior.values())), expected, atol=1e-6)


def test_a_score_a_little_above_1_gives_no_nan(backend):
    cams = {3: np.full((4, 4), 1.0001, np.float32)}
    posterior = crf_seed(random_image((4, 4)), cams, recipe=CRFRecipe(2, 0.5), num_classes=20, backend=backend)
    assert all(np.isfinite(scores).all() for scores in posterior.values())


def test_the_layout_in_memory_does_not_matter(backend):
    image = torch.from_numpy(random_image((6, 9)))
    probability = torch.from_numpy(random_probability(4, (6, 9)))
    views = image.flip(1).contiguous().flip(1), probability.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    options = {"kernels": SEED_KERNELS, "iterations": 3, "backend": backend}
    torch.testing.assert_close(
        crf_from_probability(*views, **options), crf_from_probability(image, probability, **options), rtol=0, atol=0
    )
    read_only = np.asarray(Image.fromarray(image.numpy()))
    assert not read_only.flags.writeable
    crf_seed(read_only, random_cams((6, 9), 1), recipe=CRFRecipe(1, 7), num_classes=20, backend=backend)


def test_label_0_is_a_label_like_any_other(backend):
    labels = np.zeros((5, 5), np.uint8)
    np.testing.assert_array_equal(refined(random_image((5, 5)), labels, backend), labels)
    np.testing.assert_array_equal(refined(random_image((5, 5)), labels + 2, backend), labels + 2)


@pytest.mark.parametrize("labels", [torch.zeros(1, 2, 2), torch.zeros(2, 2).long()])
def test_labels_that_are_none_are_refused(labels, backend):
    with pytest.raises(ValueError, match="expected integer labels"):
        crf_from_labels(
            torch.zeros(1, 2, 2, 3).byte(),
            labels,
            num_labels=3,
            gt_prob=0.7,
            kernels=TRAINING_KERNELS,
            iterations=1,
            backend=backend,
        )


def test_an_image_of_another_size_or_type_is_refused():
    cams = random_cams((4, 5), 1)
    for image in (random_image((5, 4)), random_image((4, 5)).astype(np.float32), random_image((4, 5))[..., 0]):
        with pytest.raises(ValueError, match="expected an image uint8"):
            crf_seed(image, cams, recipe=CRFRecipe(1, 7), num_classes=20)
