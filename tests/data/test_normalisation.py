"""A net's input from another net's, of either order of channels, against the formula written out."""

import itertools

import numpy as np
import pytest
import torch

from data.normalisation import IMAGENET, Normalisation

PLAIN = Normalisation((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
NORMALISATIONS = {
    "ImageNet": IMAGENET,
    "plain": PLAIN,
    "plain, blue first": Normalisation(PLAIN.mean, PLAIN.std, bgr=True),
    "Caffe": Normalisation((0.48, 0.46, 0.41), (1 / 255,) * 3, bgr=True),
}


def naive_input(pixels: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """Channel by channel, (3, H, W) of RGB pixels."""
    channels = [(pixels[c] / 255 - normalisation.mean[c]) / normalisation.std[c] for c in range(3)]
    return np.stack(channels[::-1] if normalisation.bgr else channels)


@pytest.mark.parametrize(("one", "other"), [*itertools.product(NORMALISATIONS, repeat=2)])
def test_a_nets_input_becomes_anothers_whose_channels_may_come_the_other_way_round(one, other):
    one, other = NORMALISATIONS[one], NORMALISATIONS[other]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 5))
    given = torch.from_numpy(np.stack([naive_input(pixels, other)] * 2))
    kept = given.clone()
    found = one.of_others(given, other)
    assert torch.equal(given, kept)
    torch.testing.assert_close(found, torch.from_numpy(np.stack([naive_input(pixels, one)] * 2)))
