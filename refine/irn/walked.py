"""From an image and its CAMs to edges, walked scores and their label map (paper/method.md, IRN)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from network.irn import STRIDE, IRNet, edge_affinities
from refine.walk import random_walk
from tool.device import autocast
from tool.irn_cam import quarter
from tool.pairs import pairs_of

FRAME = 512  # pixels: images lie on so many zeros a side, which group norms see, as those of crops in training
FRAME_MULTIPLE = 16  # that the sides of a larger image become


@dataclass(frozen=True, kw_only=True)
class WalkRecipe:
    """How far scores walk, and against which background.

    beta: exponent of the affinities. exp_times: log2 of the steps. background: its score.
    """

    beta: float = 10.0
    exp_times: int = 8
    background: float = 0.25


def framed(image: Tensor, frame: int = FRAME) -> Tensor:
    """Images (..., H, W) with zeros to the right and below: a side of `frame`, or, **Q** where the image is larger and
    the released code fails, the next multiple of 16."""
    height, width = (max(frame, -(-side // FRAME_MULTIPLE) * FRAME_MULTIPLE) for side in image.shape[-2:])
    return F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))


@torch.inference_mode()
def edge_logits(net: IRNet, image: Tensor, *, amp: str, frame: int = FRAME) -> tuple[Tensor, Tensor | None]:
    """The logits of an image's edges, float32 (h, w), a quarter of its size (rounded up), the mean of its own and its
    mirror's; and its displacement, (2, h, w), if the net has that.

    image: the net's input, float32 (3, H, W), on the net's device. amp: one of `tool.flags.AMP`.
    """
    height, width = quarter(image.shape[1:])
    with autocast(image.device, amp):
        logits, displacement = net(framed(torch.stack([image, image.flip(-1)]), frame))
    own, mirrored = logits[:, 0, :height, :width]
    if displacement is not None:
        displacement = displacement[0, :, :height, :width]
    return (own + mirrored.flip(-1)) / 2, displacement


@torch.inference_mode()
def walked(cams: Tensor, logits: Tensor, recipe: WalkRecipe) -> Tensor:
    """CAMs (K, h, w) after the walk that stays off the edges, float32, from the edges' `logits` (h, w)."""
    pairs = pairs_of(*logits.shape, everywhere=True)
    (affinities,) = edge_affinities(logits[None, None], pairs)
    inside = cams * (1 - logits.sigmoid())
    return random_walk(inside, affinities, pairs, beta=recipe.beta, steps=2**recipe.exp_times)


def scores_of(walked_cams: Tensor, shape: tuple[int, int]) -> Tensor:
    """Walked CAMs (K, h, w) at the image's `shape`, (H, W), divided by the one maximum of all; all 0 where that is."""
    large = F.interpolate(walked_cams[None], scale_factor=STRIDE, mode="bilinear", align_corners=False)[0]
    large = large[:, : shape[0], : shape[1]]
    return large / large.amax().clamp(min=torch.finfo(large.dtype).tiny)


def winners(scores: Tensor, background: float) -> Tensor:
    """Which of scores (K, H, W) is the largest at each pixel, int64 (H, W), from 1; 0 where `background` is."""
    return torch.cat([torch.full_like(scores[:1], background), scores]).argmax(dim=0)


def label_map(scores: Tensor, classes: np.ndarray, background: float) -> np.ndarray:
    """Labels, uint8 (H, W), of scores (K, H, W) of `classes`, ascending."""
    return np.array([0, *(classes + 1)], np.uint8)[winners(scores, background).cpu().numpy()]
