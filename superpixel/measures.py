"""How well superpixels keep to the borders of true masks (paper/method.md, MSA).

Counts are int64 (5,), of one image; those of many are summed before `figures` divides them.
"""

import math

import cv2
import numpy as np

from tool.dataset import IGNORE

REACH = 0.0025  # of the image's diagonal: how far a superpixel's border may be from the mask's
NAMES = ("achievable segmentation accuracy", "undersegmentation error", "boundary recall")


def reach_of(shape: tuple[int, int]) -> int:
    """Pixels that borders may be apart in an image of (height, width)."""
    return round(REACH * math.hypot(*shape))


def superpixel_counts(superpixels: np.ndarray, mask: np.ndarray, *, reach: int | None = None) -> np.ndarray:
    """Counts, int64 (5,): pixels of each superpixel's commonest label; pixels that superpixels share with the smaller
    side of a border; border pixels of the mask that are met, and all of them; pixels.

    Args:
        superpixels: integers (H, W), not negative. mask: uint8 (H, W), 255 where a pixel is left out of all counts.
        reach: how far a border may be off, in pixels, or None for `reach_of`'s.

    Raises `ValueError` for maps of different size.
    """
    if superpixels.shape != mask.shape:
        raise ValueError(f"expected superpixels of the mask's shape {mask.shape}, got {superpixels.shape}")
    valid = mask != IGNORE
    _, labels = np.unique(mask[valid], return_inverse=True)
    number, many = superpixels[valid].astype(np.intp), int(labels.max(initial=0)) + 1
    overlaps = np.bincount(number * many + labels, minlength=many * (int(number.max(initial=0)) + 1)).reshape(-1, many)
    leaks = np.where(overlaps > 0, np.minimum(overlaps, overlaps.sum(1, keepdims=True) - overlaps), 0)

    reach = reach_of(mask.shape) if reach is None else reach
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(borders(superpixels).astype(np.uint8), window, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    true_border = borders(mask) & valid
    met = np.count_nonzero(true_border & (near > 0))
    return np.array([overlaps.max(1).sum(), leaks.sum(), met, true_border.sum(), valid.sum()], np.int64)


def borders(labels: np.ndarray) -> np.ndarray:
    """The pixels with a neighbour of another label above, below, left or right, bool (H, W)."""
    result = np.zeros(labels.shape, bool)
    for ahead, behind in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = labels[ahead] != labels[behind]
        result[ahead] |= differs
        result[behind] |= differs
    return result


def figures(counts: np.ndarray) -> dict[str, float]:
    """The measures by `NAMES`, 0..1, of summed counts; of masks without a border, the recall is 1."""
    matched, leaked, met, border, pixels = (int(count) for count in counts)
    recall = met / border if border else 1.0
    return dict(zip(NAMES, (matched / max(pixels, 1), leaked / max(pixels, 1), recall), strict=True))
