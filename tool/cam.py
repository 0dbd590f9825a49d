"""Class activation maps at several scales, and the label maps that they make. Knows no method."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tool.device import copied_to


@torch.inference_mode()
def multi_scale_cam(
    foreground_cam: Callable[[Tensor], Tensor],
    image: Image.Image,
    classes: Sequence[int],
    *,
    scales: Sequence[float],
    normalise: Callable[[Tensor], Tensor],
    device: torch.device,
) -> dict[int, np.ndarray]:
    """The CAMs of an image's classes, summed over scales and mirrors, each divided by its maximum + 1e-5.

    Args:
        foreground_cam: (N, 3, h, w) -> (N, K, h', w'), not negative; the net's.
        image: RGB, any size (W, H).
        classes: the image's, each in 0..K-1.
        scales: of the image's sides; sizes by Python's `round` (half to even), bicubic.
        normalise: the net's input, (3, h, w), from an image's pixels, uint8 of that shape, on `device`.

    Returns:
        {class: float32 (H, W) in 0..1}, classes ascending; spec/hsc.md, Seeds.
    """
    width, height = image.size
    classes = sorted(classes)
    total = torch.zeros(len(classes), height, width, device=device)
    index = copied_to(torch.tensor(classes, dtype=torch.long), device)  # a list would make the host wait for a GPU
    for scale in scales:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        resized = normalise(
            copied_to(torch.from_numpy(np.array(image.resize(size, Image.Resampling.BICUBIC))).permute(2, 0, 1), device)
        )
        pair = torch.stack([resized, resized.flip(-1)])
        # A CPU's caches hold the maps of one better than those of two: a fifth of the time.
        parts = pair.split(1) if device.type == "cpu" else [pair]
        # One channel a class of the image: the others would be resized for nothing.
        cam = torch.cat([foreground_cam(part).index_select(1, index).float() for part in parts])
        plain, mirrored = F.interpolate(cam, (height, width), mode="bilinear", align_corners=False)
        total += plain + mirrored.flip(-1)
    total /= total.amax((1, 2), keepdim=True) + 1e-5
    return dict(zip(classes, total.cpu().numpy(), strict=True))


def seed_labels(cams: Mapping[int, np.ndarray], *, threshold: float) -> np.ndarray:
    """The label map of a CAM dict with at least one class: each pixel's largest score, background scoring `threshold`.

    Args:
        cams: {class: float32 (H, W)}. threshold: background's score, 0..1; it wins a tie.

    Returns:
        uint8 (H, W), 0 = background, class + 1.
    """
    classes = sorted(cams)
    background = np.full_like(cams[classes[0]], threshold)
    scores = np.stack([background, *(cams[index] for index in classes)])
    return np.array([0, *(index + 1 for index in classes)], np.uint8)[scores.argmax(0)]
