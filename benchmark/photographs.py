"""Photographs for the benchmarks, without a data set: cuts of the one that matplotlib brings along."""

import cv2
import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image


def photographs(count: int, size: tuple[int, int]) -> np.ndarray:
    """uint8 (count, H, W, 3), RGB, `size` = (H, W): all different, half of them mirrored; the same ones each time."""
    generator = np.random.default_rng(0)
    whole = np.asarray(Image.open(get_sample_data("grace_hopper.jpg")).convert("RGB"))
    cuts = []
    for number in range(count):
        share = generator.uniform(0.6, 1)
        height, width = (int(side * share) for side in whole.shape[:2])
        top, left = (
            generator.integers(0, side - cut + 1) for side, cut in zip(whole.shape[:2], (height, width), strict=True)
        )
        cut = cv2.resize(whole[top : top + height, left : left + width], size[::-1], interpolation=cv2.INTER_CUBIC)
        cuts.append(cut[:, ::-1] if number % 2 else cut)
    return np.stack(cuts)


def scores(count: int, labels: int, size: tuple[int, int]) -> np.ndarray:
    """Probabilities, float32 (count, labels, H, W), of blurred patches with edges; the same ones each time."""
    generator = np.random.default_rng(1)
    height, width = size
    coarse = generator.random((count, height // 12 + 2, width // 12 + 2, labels), dtype=np.float32) ** 8
    maps = [
        [cv2.resize(np.ascontiguousarray(image[..., c]), (width, height)) for c in range(labels)] for image in coarse
    ]
    stack = np.array(maps, np.float32).clip(1e-6)
    return stack / stack.sum(axis=1, keepdims=True)
