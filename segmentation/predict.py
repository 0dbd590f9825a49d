"""From an image to its label map: probabilities over scales and mirrors, and the CRF."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segmentation.data import InputNormalisation, scale_image
from tool.crf import CRFKernels, crf_from_probability
from tool.device import copied_to

TEST_KERNELS = CRFKernels(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4)
CRF_ITERATIONS = 10


@torch.inference_mode()
def multi_scale_probability(
    net: Callable[[Tensor], Tensor],
    image: np.ndarray,
    *,
    scales: Sequence[float],
    flip: bool,
    normalise: InputNormalisation,
    device: torch.device,
) -> Tensor:
    """Probabilities of L labels, float32 (L, H, W): the softmax of the logits' mean over scales and mirrors.

    They stay on `device`.

    net: from images (N, 3, h, w) to logits (N, L, h, w). image: uint8 (H, W, 3), RGB. scales: factors of its sides.
    """
    logits = []
    for scale in scales:
        batch = normalise(scale_image(image, scale), device)[None]
        if flip:
            batch = torch.cat([batch, batch.flip(-1)])
        scaled = F.interpolate(net(batch).float(), image.shape[:2], mode="bilinear", align_corners=True)
        logits.append((scaled[0] + scaled[1].flip(-1)) / 2 if flip else scaled[0])
    return torch.stack(logits).mean(dim=0).softmax(dim=0)


@torch.inference_mode()
def crf_labels(image: np.ndarray, probability: Tensor | np.ndarray, *, backend: str = "pydensecrf") -> np.ndarray:
    """The CRF's label map, uint8 (H, W), of an RGB image, uint8 (H, W, 3), and its probabilities, float (L, H, W), on
    whose device it runs."""
    probability = torch.as_tensor(probability)
    posterior = crf_from_probability(
        copied_to(torch.tensor(image), probability.device),
        probability,
        kernels=TEST_KERNELS,
        iterations=CRF_ITERATIONS,
        backend=backend,
    )
    return posterior.argmax(dim=0).to(torch.uint8).cpu().numpy()
