"""From an image to the probabilities of its labels, over scales and mirrors."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import Normalisation
from segmentation.data import scale_image


@torch.inference_mode()
def multi_scale_probability(
    net: Callable[[Tensor], Tensor],
    image: np.ndarray,
    *,
    scales: Sequence[float],
    flip: bool,
    normalisation: Normalisation,
    device: torch.device,
    aligned: bool = True,
) -> Tensor:
    """Probabilities of L labels, float32 (L, H, W): the softmax of the logits' mean over scales and mirrors.

    They stay on `device`.

    net: from images (N, 3, h, w) to logits (N, L, h, w). image: uint8 (H, W, 3), RGB. scales: factors of its sides.
    aligned: corners are, where logits are brought to the image's size.
    """
    logits = []
    for scale in scales:
        batch = normalisation(scale_image(image, scale), device)[None]
        if flip:
            batch = torch.cat([batch, batch.flip(-1)])
        scaled = F.interpolate(net(batch).float(), image.shape[:2], mode="bilinear", align_corners=aligned)
        logits.append((scaled[0] + scaled[1].flip(-1)) / 2 if flip else scaled[0])
    return torch.stack(logits).mean(dim=0).softmax(dim=0)
