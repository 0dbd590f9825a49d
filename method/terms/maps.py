"""What all terms do with maps and batches.

Maps are (N, L, h, w) with background as the last channel; `label` is (N, K), ones for the classes in the image.
"""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, corners aligned, as everywhere in the method."""
    return maps if maps.shape[-2:] == size else F.interpolate(maps, size, mode="bilinear", align_corners=True)


def with_background(label: Tensor) -> Tensor:
    """(N, K) image labels -> (N, K + 1, 1, 1), background always present."""
    return F.pad(label, (0, 1), value=1.0)[:, :, None, None]


class View(NamedTuple):
    """One scale of a batch: image (N, 3, H, W) normalised, saliency (N, 1, H, W) in 0..1 or None."""

    image: Tensor
    saliency: Tensor | None


def two_scales(image: Tensor, saliency: Tensor | None, second_view: int | None) -> list[View]:
    """The batch as it is, and resized to `second_view` squared pixels (none: one view only)."""
    views = [View(image, saliency)]
    if second_view is not None:
        size = (second_view, second_view)
        views.append(View(resize(image, size), None if saliency is None else resize(saliency, size)))
    return views
