"""The CRF of images of unequal sizes at once: each gives what it gives alone."""

import sys

import numpy as np
import pytest
import torch

from tests.needs import needs_pydensecrf
from tests.tool.test_crf import random_probability, smooth_image
from tool.crf import crf_from_probabilities, crf_from_probability
from tool.seed_recipe import MASK_KERNELS

module = sys.modules["tool.crf.unequal"]
# A corner of each is black, where what fills up points to a multiple of four can be seen; the last but one has such.
SHAPES = [(20, 30), (31, 17), (1, 5), (19, 31), (24, 24)]
LABELS = [3, 2, 4, 3, 1]


@pytest.fixture(scope="module")
def batch():
    images = [torch.from_numpy(smooth_image(shape, seed)) for seed, shape in enumerate(SHAPES)]
    for image in images:
        image[:4, :4] = 0
    pairs = zip(LABELS, SHAPES, strict=True)
    scores = [torch.from_numpy(random_probability(*pair, seed)).float() for seed, pair in enumerate(pairs)]
    scores[3][2] = 0  # a label that scores nothing anywhere
    return images, scores


def alone(batch, backend):
    options = {"kernels": MASK_KERNELS, "iterations": 10, "backend": backend}
    return [crf_from_probability(*pair, **options) for pair in zip(*batch, strict=True)]


@pytest.mark.parametrize("images_at_once", [1, 2, 5])
def test_images_together_are_images_alone(batch, images_at_once, monkeypatch):
    monkeypatch.setattr(module, "GROUP_BYTES", images_at_once * 4 * 600 * 2)
    found = crf_from_probabilities(*batch, kernels=MASK_KERNELS, iterations=10, backend="torch")
    for posterior, expected in zip(found, alone(batch, "torch"), strict=True):
        torch.testing.assert_close(posterior, expected, atol=1e-4, rtol=1e-3)


@needs_pydensecrf
def test_backends_agree(batch):
    found = [
        crf_from_probabilities(*batch, kernels=MASK_KERNELS, iterations=10, backend=backend)
        for backend in ("torch", "pydensecrf")
    ]
    for one, other in zip(*found, strict=True):
        assert np.abs((one - other).numpy()).max() < 2e-3
