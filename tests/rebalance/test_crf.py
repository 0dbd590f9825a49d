"""The CRF of DHR's label maps: the golden numbers, and the image that it sees."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data.normalisation import IMAGENET, Normalisation
from rebalance.crf import ITERATIONS, seen_by_crf
from tests.golden_inputs import assert_golden, rnd
from tests.needs import needs_pydensecrf
from tool.crf import crf_from_probability
from tool.seed_recipe import MASK_KERNELS


@pytest.mark.golden
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("backend", [pytest.param("pydensecrf", marks=needs_pydensecrf), "torch"])
def test_posteriors_and_labels_are_the_golden_ones(golden, dhr_meta, golden_device, number, backend):
    with np.load(golden / "dhr" / "crf.npz") as file:
        expected = dict(file)
    scores = F.interpolate(rnd(dhr_meta["seed"] + 92 + number, 1, 4, 9, 9), (64, 64), mode="bilinear")[0]
    scores = (2.5 * scores).softmax(dim=0)
    if number == 1:
        scores = scores / scores.amax(dim=(1, 2), keepdim=True)
    posterior = crf_from_probability(
        torch.from_numpy(expected["image"][number]).to(golden_device),
        scores.to(golden_device),
        kernels=MASK_KERNELS,
        iterations=ITERATIONS,
        backend=backend,
    )
    assert_golden(posterior[:, ::2, ::2], expected[f"posterior_{number}"].astype(np.float32), atol=2e-3)
    assert (posterior.argmax(dim=0).cpu().numpy() == expected[f"label_{number}"]).mean() >= 0.995


@pytest.mark.golden
def test_the_image_that_the_crf_sees_is_the_golden_one(golden):
    with np.load(golden / "dhr" / "transforms.npz") as file:
        ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
        assert (seen_by_crf(ramp, IMAGENET) == file["denormalised"]).all()


def test_other_normalisations_bring_back_other_values_of_each_channel_alone():
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
    of_imagenet, of_halves = (seen_by_crf(ramp, each) for each in (IMAGENET, Normalisation((0.5,) * 3, (0.5,) * 3)))
    assert (of_halves[..., 0] == of_halves[..., 2]).all() and (of_imagenet[..., 0] != of_imagenet[..., 2]).any()
    for seen in (of_imagenet, of_halves):
        assert {*(ramp.astype(int) - seen).ravel().tolist()} <= {0, 1}
