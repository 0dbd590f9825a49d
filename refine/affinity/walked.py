"""From the CAM dict of an image to its walked scores and their label map (paper/method.md, AffinityNet)."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import Normalisation
from network.affinity import AffNet, affinities
from refine.affinity.labels import STRIDE
from refine.walk import random_walk
from tool.cam import labels_of_scores
from tool.crf import crf_from_probability
from tool.device import autocast, copied_to, numbers_on
from tool.pairs import pairs_of
from tool.seed_recipe import SEED_KERNELS

CRF_ITERATIONS = 1


@dataclass(frozen=True, kw_only=True)
class WalkRecipe:
    """How far scores walk, and against which background.

    beta: exponent of the affinities. logt: log2 of the steps. background: its score, **Q** PPC's constant, whatever
    its --alpha; None: (1 - the classes' maximum)^alpha, SEAM's. everywhere: of `tool.pairs.Pairs`.
    background_beside: **Q** Beside the image the background scores 0, as the classes do; sane: as where no class is.
    """

    beta: float = 8.0
    logt: int = 6
    background: float | None = 0.27
    alpha: float = 6.0
    everywhere: bool = False
    background_beside: bool = False


def padded(values: Tensor) -> Tensor:
    """Values (C, H, W) with zeros to the right and below, to multiples of 8."""
    height, width = values.shape[1:]
    return F.pad(values, (0, -width % STRIDE, 0, -height % STRIDE))


def with_background(cams: Tensor, recipe: WalkRecipe) -> Tensor:
    """The scores of the background and of K classes, (K + 1, H', W') with sides of multiples of 8, from CAMs (K, H, W)
    of at least one class."""

    def scores(maps: Tensor) -> Tensor:
        if recipe.background is not None:
            return torch.full_like(maps[:1], recipe.background)
        return (1 - maps.amax(dim=0, keepdim=True).clamp(min=0)).clamp(min=0) ** recipe.alpha

    background = scores(padded(cams)) if recipe.background_beside else padded(scores(cams))
    return torch.cat([background, padded(cams)])


@torch.inference_mode()
def walked_scores(
    net: AffNet, image: Image.Image, cams: dict[int, np.ndarray], *, recipe: WalkRecipe, device: torch.device, amp: str
) -> Tensor:
    """The scores of the background and of an image's classes after the walk, float32 (K + 1, H', W') on `device`, the
    sides those of the image rounded up to multiples of 8.

    image: RGB (W, H). cams: {class: float32 (H, W)}, at least one class. amp: of the net, one of `tool.flags.AMP`.
    """
    maps = copied_to(torch.from_numpy(np.stack([cams[index] for index in sorted(cams)])), device)
    scores = with_background(maps, recipe)
    with autocast(device, amp):
        features = net.features(padded(net.normalisation(image, device))[None])
    pairs = pairs_of(*features.shape[2:], everywhere=recipe.everywhere)
    cells = F.avg_pool2d(scores[None], STRIDE)[0]
    walked = random_walk(cells, affinities(features, pairs)[0], pairs, beta=recipe.beta, steps=2**recipe.logt)
    return F.interpolate(walked[None], scores.shape[1:], mode="bilinear", align_corners=False)[0]


@torch.inference_mode()
def sharpened(
    image: Image.Image,
    scores: Tensor,
    classes: list[int],
    *,
    num_labels: int,
    normalisation: Normalisation,
    backend: str,
) -> Tensor:
    """CRF posteriors, float32 (K + 1, H', W'), of walked scores, of the background and of `classes`, ascending.

    All the data set's labels take part. The image is the net's input turned back: its pixels truncated, grey beside it.
    """
    pixels = normalisation.truncated(padded(normalisation(image, scores.device)))
    rows = numbers_on(labels_of_scores(classes), scores.device)
    probability = scores.new_zeros(num_labels, *scores.shape[1:]).index_copy_(0, rows, scores)
    posterior = crf_from_probability(
        pixels.permute(1, 2, 0).contiguous(),
        probability,
        kernels=SEED_KERNELS,
        iterations=CRF_ITERATIONS,
        backend=backend,
    )
    return posterior[rows]


def label_map(scores: Tensor, classes: list[int], shape: tuple[int, int]) -> np.ndarray:
    """Labels, uint8 of `shape`, (H, W), from scores (K + 1, H', W') of the background and of `classes`, ascending."""
    best = scores[:, : shape[0], : shape[1]].argmax(dim=0).cpu().numpy()
    return np.array(labels_of_scores(classes), np.uint8)[best]
