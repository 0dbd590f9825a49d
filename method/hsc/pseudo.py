"""Pixel pseudo labels on the contrast grid: where the CAM is strongest, sharpened by a dense CRF."""

import torch
from torch import Tensor

from data.normalisation import IMAGENET, Normalisation
from method.terms.maps import resize, with_background
from tool.crf import crf_from_labels, resolve_backend
from tool.seed_recipe import LABEL_KERNELS

ITERATIONS = 10
LABEL_CONFIDENCE = 0.7


@torch.no_grad()
def pseudo_labels(
    cam: Tensor, label: Tensor, image: Tensor, *, normalisation: Normalisation = IMAGENET, crf_backend: str = "auto"
) -> Tensor:
    """Refined pseudo labels of each image.

    Args:
        cam: (V, N, K + 1, h, w), normalised, the last channel the background score.
        label: (N, K).
        image: (N, 3, H, W), normalised by the net's `normalisation`; brought to the grid.
        crf_backend: of `tool.flags.CRF_BACKENDS`.

    Returns:
        (V, N, h, w), int64, 0..K-1 classes and K background, on the device of `cam`.
    """
    coarse = (cam * with_background(label)).softmax(dim=2).argmax(dim=2)
    pictures = normalisation.truncated(resize(image.float(), cam.shape[-2:])).permute(0, 2, 3, 1)
    refined = crf_from_labels(
        pictures.expand(len(cam), -1, -1, -1, -1).flatten(0, 1),
        coarse.flatten(0, 1),
        num_labels=cam.shape[2],
        gt_prob=LABEL_CONFIDENCE,
        kernels=LABEL_KERNELS,
        iterations=ITERATIONS,
        backend=resolve_backend(crf_backend, cam.device),
        recorded=True,
    )
    return refined.view_as(coarse)
