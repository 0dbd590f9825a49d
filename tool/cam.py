"""Class activation maps at several scales, and the label maps that they make. Knows no method."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from tool.device import copied_to, numbers_on
from tool.irn_cam import quarter
from tool.seed_recipe import SeedRecipe

EPSILON = 1e-5
BACKGROUND = -1  # among classes: of nets that have a map of it


def divide_by_maximum(cam: Tensor) -> Tensor:
    """Maps (C, H, W), each by its maximum + 1e-5 (paper/method.md, Recipe, seeds, score)."""
    return cam / (cam.amax((1, 2), keepdim=True) + EPSILON)


def min_max(cam: Tensor) -> Tensor:
    """Maps (..., H, W) without what is negative, each brought from its extremes lo, hi to about 0..1: entries below
    lo + 1e-5 become 0, then (x - lo - 1e-5) / (hi - lo + 1e-5) (paper/method.md, SEAM and PPC).

    **Q** No relu after it: zeroed entries come out negative, far so where a map is nearly flat.
    """
    cam = cam.relu()
    low, high = cam.amin((-2, -1), keepdim=True), cam.amax((-2, -1), keepdim=True)
    cam = cam.masked_fill(cam < low + EPSILON, 0)
    return (cam - low - EPSILON) / (high - low + EPSILON)


def positive_by_maximum(cam: Tensor) -> Tensor:
    """Raw maps (..., H, W), the positive part of each less 1e-5, by its maximum + 1e-5: 0..1 (paper/method.md, MSA)."""
    positive = cam.relu()
    return (positive - EPSILON).relu() / (positive.amax((-2, -1), keepdim=True) + EPSILON)


NORMALISATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum": divide_by_maximum,
    "min_max": min_max,
    "positive": positive_by_maximum,
}


def mirrored_pair(
    image: Image.Image, scale: float, *, normalise: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """The net's inputs, float32 (2, 3, h, w), of an image scaled and of its mirror image.

    Sizes by Python's `round` (half to even), at least 1; bicubic. normalise: the net's input, (3, h, w), from pixels,
    uint8 of that shape, on `device`.
    """
    width, height = image.size
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    pixels = torch.from_numpy(np.array(image.resize(size, Image.Resampling.BICUBIC))).permute(2, 0, 1)
    scaled = normalise(copied_to(pixels, device))
    return torch.stack([scaled, scaled.flip(-1)])


def maps_of_pair(net: Callable[[Tensor], Tensor], pair: Tensor) -> Tensor:
    """The maps of an image and of its mirror image, float32 (2, K, h', w'), from `net`, which gives (N, K, h', w'),
    float, of (N, 3, h, w)."""
    # A CPU's caches hold the maps of one better than those of two: a fifth of the time.
    parts = pair.split(1) if pair.device.type == "cpu" else [pair]
    return torch.cat([net(part) for part in parts]).float()


def turned_back(pair: Tensor) -> Tensor:
    """The maps of an image and of its mirror image, (2, K, h, w), the latter turned back, added: (K, h, w)."""
    plain, mirrored = pair
    return plain + mirrored.flip(-1)


Maps = Callable[[Image.Image, float, Tensor], Tensor]


def multi_scale_cam(
    maps: Maps, image: Image.Image, classes: Sequence[int], *, recipe: SeedRecipe, device: torch.device
) -> dict[int, np.ndarray]:
    """The CAMs of an image's classes, summed over scales and normalised, as `recipe` says.

    Args:
        maps: from the image, a scale and n classes, int64 (n) on `device`, to their maps, (n, h, w) there, of any size.
        image: RGB, any size (W, H). classes: the image's, each in 0..K-1, or `BACKGROUND` where `maps` knows it.

    Returns:
        {class: float32 (H, W)}, classes ascending.
    """
    return _multi_scale(maps, image, classes, recipe, device, with_quarter=False)[0]


def two_size_cam(
    maps: Maps, image: Image.Image, classes: Sequence[int], *, recipe: SeedRecipe, device: torch.device
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """What `multi_scale_cam` gives, and the same summed on a quarter of the image's size (`tool.irn_cam.quarter`),
    {class: float32 (h, w)}, which IRN's walk reads (paper/method.md, CRT)."""
    return _multi_scale(maps, image, classes, recipe, device, with_quarter=True)


@torch.inference_mode()
def _multi_scale(
    maps: Maps,
    image: Image.Image,
    classes: Sequence[int],
    recipe: SeedRecipe,
    device: torch.device,
    *,
    with_quarter: bool,
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    width, height = image.size
    classes = sorted(classes)
    if not classes:
        return {}, {}
    frame = (height, width) if recipe.frame is None else recipe.frame((height, width))
    totals = [torch.zeros(len(classes), *frame, device=device)]
    if with_quarter:
        totals.append(torch.zeros(len(classes), *quarter((height, width)), device=device))
    index = numbers_on(classes, device)
    for scale in recipe.scales:
        of_scale = maps(image, scale, index)
        for total in totals:
            total += F.interpolate(of_scale[None], total.shape[1:], mode="bilinear", align_corners=False)[0]
    if recipe.is_cut:
        totals[0] = totals[0][:, :height, :width]
    cams, *small = [NORMALISATIONS[recipe.normalise](total) for total in totals]
    if cams.shape[1:] != (height, width):
        cams = F.interpolate(cams[None], (height, width), mode="bilinear", align_corners=False)[0]
    whole = dict(zip(classes, cams.cpu().numpy(), strict=True))
    return whole, (dict(zip(classes, small[0].cpu().numpy(), strict=True)) if small else {})


def labels_of_scores(classes: Sequence[int]) -> list[int]:
    """The labels that scores of the background and of `classes` stand for: 0, and class + 1."""
    return [0, *(index + 1 for index in classes)]


def seed_labels(cams: Mapping[int, np.ndarray], *, threshold: float, shape: tuple[int, int]) -> np.ndarray:
    """The label map of a CAM dict: each pixel's largest score, background scoring `threshold`; 0 without classes.

    Args:
        cams: {class: float32 (H, W)}. threshold: background's score, 0..1; it wins a tie. shape: (H, W).

    Returns:
        uint8 (H, W), 0 = background, class + 1.
    """
    classes = sorted(cams)
    scores = np.stack([np.full(shape, threshold, np.float32), *(cams[index] for index in classes)])
    return np.array(labels_of_scores(classes), np.uint8)[scores.argmax(0)]
