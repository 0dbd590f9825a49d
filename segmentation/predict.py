"""From an image to the probabilities of its labels, over scales and mirrors."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.normalisation import Normalisation
from segmentation.data import scale_image

TURNED_AT_ONCE = {"cpu": 2**20, "cuda": 2**28}  # bytes: what a CPU's cache holds, and few launches on a GPU


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
    total, size = None, image.shape[:2]
    for scale in scales:
        batch = normalisation(scale_image(image, scale), device)[None]
        if flip:
            batch = torch.cat([batch, batch.flip(-1)])
        logits = net(batch)
        for number, side in enumerate(logits.split(1)):
            scaled = F.interpolate(side.float(), size, mode="bilinear", align_corners=aligned)
            total = _added(total, scaled[0], mirrored=number == 1)
            del scaled
        del logits, side  # before the net's next ones
    return total.div_(len(scales) * (1 + flip)).softmax(dim=0)


def _added(total: Tensor | None, logits: Tensor, *, mirrored: bool) -> Tensor:
    """`total` (L, H, W), None before the first, to which `logits` of that shape are added in place.

    Of many labels and a large image each such map is of gigabytes: no third one is made, to turn a mirror image's.
    """
    if total is None:
        return logits
    if not mirrored:
        return total.add_(logits)
    labels = max(TURNED_AT_ONCE[total.device.type] // total[0].nbytes, 1)
    for some, scores in zip(total.split(labels), logits.split(labels), strict=True):
        some.add_(scores.flip(-1))
    return total
