"""The dense CRFs of training, seeds and the test stage give the golden numbers, on images of any size and layout."""

import numpy as np
import pytest
from PIL import Image

from tool.crf import SEED_KERNELS, CRFKernels, crf_from_labels, crf_from_probability, crf_seed

TRAINING_KERNELS = CRFKernels(
    gaussian_sxy=3, gaussian_compat=3, bilateral_sxy=50, bilateral_srgb=5, bilateral_compat=10
)
TEST_KERNELS = CRFKernels(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)


def random_image(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def random_cams(shape, *classes, seed=0):
    generator = np.random.default_rng(seed)
    return {c: generator.random(shape, dtype=np.float32) for c in classes}


def test_training_labels_are_refined_as_in_the_golden_numbers(golden):
    with np.load(golden / "pseudo_label_crf.npz") as data:
        images, labels, expected = data["image"], data["label"], data["refined"]
    refined = [
        crf_from_labels(image, label, num_labels=21, gt_prob=0.7, kernels=TRAINING_KERNELS, iterations=10)
        for image, label in zip(images, labels, strict=True)
    ]
    assert (np.stack(refined) == expected).mean() >= 0.995
    assert (labels != expected).mean() > 0.05  # the CRF had something to do


def test_test_stage_labels_are_those_of_the_golden_numbers(golden):
    with np.load(golden / "deeplabv2.npz") as data:
        image, probability, expected = data["crf_image"], data["crf_probability"], data["crf_out_label"]
    # As the arrays come: a view with the channels moved, which the CRF's C++ side could not read.
    posterior = crf_from_probability(
        image.transpose(1, 2, 0), probability.astype(np.float32), kernels=TEST_KERNELS, iterations=10
    )
    assert (posterior.argmax(0) == expected).mean() >= 0.995


def test_seed_posteriors_are_those_of_the_golden_numbers(golden):
    files = sorted((golden / "inference").glob("*.npz"))
    assert files
    for file in files:
        with np.load(file) as data:
            cams = {int(key.removeprefix("cam_")): data[key] for key in data.files if key.startswith("cam_")}
            prefix = "crf_t8_a7_"
            expected = {int(key.removeprefix(prefix)): data[key] for key in data.files if key.startswith(prefix)}
        image = np.array(Image.open(golden / "inference" / "images" / f"{file.stem}.jpg").convert("RGB"))
        posterior = crf_seed(image, cams, alpha=7, iterations=8)
        assert sorted(posterior) == sorted(expected)
        for label, scores in expected.items():
            assert posterior[label].dtype == np.float32
            np.testing.assert_allclose(posterior[label], scores.astype(np.float32), rtol=0, atol=2e-3)


def test_background_scores_the_complement_of_the_best_class_to_the_power_alpha():
    image = random_image((6, 8))
    cams = random_cams((6, 8), 14, 2)
    scores = np.stack([(1 - np.maximum(cams[2], cams[14])) ** 3, cams[2], cams[14]])
    expected = crf_from_probability(image, scores, kernels=SEED_KERNELS, iterations=2)
    posterior = crf_seed(image, cams, alpha=3, iterations=2)
    assert list(posterior) == [0, 3, 15]
    np.testing.assert_allclose(np.stack(list(posterior.values())), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (9, 4)])
@pytest.mark.parametrize("classes", [(), (0,), (0, 19)])
def test_posteriors_of_images_of_any_size_sum_to_1(shape, classes):
    posterior = crf_seed(random_image(shape), random_cams(shape, *classes), alpha=7, iterations=3)
    assert list(posterior) == [0, *(c + 1 for c in classes)]
    for scores in posterior.values():
        assert scores.shape == shape and scores.dtype == np.float32
    np.testing.assert_allclose(sum(posterior.values()), 1, atol=1e-5)


def test_an_image_without_classes_is_background():
    (posterior,) = crf_seed(random_image((3, 4)), {}, alpha=7, iterations=8).values()
    np.testing.assert_array_equal(posterior, np.ones((3, 4), np.float32))


def test_a_score_a_little_above_1_gives_no_nan():
    cams = {3: np.full((4, 4), 1.0001, np.float32)}
    posterior = crf_seed(random_image((4, 4)), cams, alpha=0.5, iterations=2)
    assert all(np.isfinite(scores).all() for scores in posterior.values())


def test_the_layout_in_memory_does_not_matter():
    image = random_image((6, 9))
    probability = np.random.default_rng(1).dirichlet(np.ones(4), (6, 9)).astype(np.float32).transpose(2, 0, 1)
    labels = np.asfortranarray(probability.argmax(0))
    flipped = np.ascontiguousarray(image[:, ::-1])[:, ::-1]
    from_probability = {"kernels": SEED_KERNELS, "iterations": 3}
    np.testing.assert_array_equal(
        crf_from_probability(flipped, probability, **from_probability),
        crf_from_probability(image, np.ascontiguousarray(probability), **from_probability),
    )
    from_labels = {"num_labels": 4, "gt_prob": 0.7, "kernels": TRAINING_KERNELS, "iterations": 3}
    np.testing.assert_array_equal(
        crf_from_labels(flipped, labels, **from_labels),
        crf_from_labels(image, np.ascontiguousarray(labels), **from_labels),
    )


def test_label_0_is_a_label_like_any_other():
    labels = np.zeros((5, 5), np.uint8)
    refined = crf_from_labels(
        random_image((5, 5)), labels, num_labels=3, gt_prob=0.7, kernels=TRAINING_KERNELS, iterations=2
    )
    np.testing.assert_array_equal(refined, labels)
    flipped = crf_from_labels(
        random_image((5, 5)), labels + 2, num_labels=3, gt_prob=0.7, kernels=TRAINING_KERNELS, iterations=2
    )
    np.testing.assert_array_equal(flipped, labels + 2)


@pytest.mark.parametrize("labels", [np.full((2, 2), 3), np.full((2, 2), -1), np.zeros((2, 2)), np.zeros(4, int)])
def test_labels_out_of_range_are_refused(labels):
    with pytest.raises(ValueError, match="expected integer labels"):
        crf_from_labels(random_image((2, 2)), labels, num_labels=3, gt_prob=0.7, kernels=TRAINING_KERNELS, iterations=1)


def test_an_image_of_another_size_or_type_is_refused():
    cams = random_cams((4, 5), 1)
    for image in (random_image((5, 4)), random_image((4, 5)).astype(np.float32), random_image((4, 5))[..., 0]):
        with pytest.raises(ValueError, match="expected an image uint8"):
            crf_seed(image, cams, alpha=7, iterations=1)
