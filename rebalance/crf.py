"""The CRF of label maps that DHR makes: what it is and which image it sees (paper/method.md, DHR)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor

from data.normalisation import Normalisation
from tool.crf import crf_from_probabilities
from tool.seed_recipe import MASK_KERNELS

ITERATIONS = 10


def seen_by_crf(pixels: np.ndarray, normalisation: Normalisation) -> np.ndarray:
    """**Q** What the CRF takes for an RGB image, uint8 (H, W, 3): the net's input brought back to pixels, truncated.

    Of ImageNet's normalisation 68 % of the values of red come back one lower, fewer of green and blue.
    """
    table = _brought_back(normalisation)
    return np.stack([table[channel][pixels[..., channel]] for channel in range(3)], axis=-1)


@lru_cache(maxsize=4)
def _brought_back(normalisation: Normalisation) -> np.ndarray:
    """Of each channel's values 0 to 255, uint8 (3, 256): forth in float32, by three operations, and back in float64.

    Another order or precision moves other values.
    """
    values = np.arange(256, dtype=np.float32) / np.float32(255)
    mean, std = (np.array(numbers)[:, None] for numbers in (normalisation.mean, normalisation.std))
    normalised = (values - mean.astype(np.float32)) / std.astype(np.float32)
    return ((normalised.astype(np.float64) * std + mean) * 255).clip(0, 255).astype(np.uint8)


def posteriors(pictures: Sequence[Tensor], scores: Sequence[Tensor], *, backend: str) -> list[Tensor]:
    """The CRF's posteriors, float32 (C, h, w), of images of any sizes, each with its own labels.

    pictures: uint8 (h, w, 3). scores: float32 (C, h, w) of 0..1, as they are. backend: pydensecrf or torch.
    """
    return crf_from_probabilities(pictures, scores, kernels=MASK_KERNELS, iterations=ITERATIONS, backend=backend)
