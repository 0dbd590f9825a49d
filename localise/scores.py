"""What localisation is scored by: classes and boxes right, and the kinds of error (paper/method.md, Object
localisation)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from localise.boxes import areas, intersections, ious

TOP = (1, 5)
# In the order in which they are asked; the first that holds is an image's kind.
KINDS = ("cls_wrong", "right", "multi", "part", "more", "wrong")
HALF = 0.5  # of the union: **Q** a box of exactly that is right for GT-known, and wrong for Top-1 and Top-5
OBJECT_SHARE = 0.3  # of a true box inside the found one, for it to be among several
PART_SHARE = 0.5  # of the found box inside the true one
MORE_SHARE = 0.7  # of the true box inside the found one


class Found(NamedTuple):
    """What a net finds in N images.

    rank: int (N), how many classes score higher than the true one. true_box, best_box: int (N, 4), the boxes of the
    true and of the best class.
    """

    rank: np.ndarray
    true_box: np.ndarray
    best_box: np.ndarray


def scores_of(found: Found, boxes: Sequence[np.ndarray], *, at_least_half: bool = False) -> dict[str, np.ndarray]:
    """By name what holds of each of N images, bool (N): `cls_top1`, `cls_top5`, `loc_top1`, `loc_top5`, `gt_known` and
    the `KINDS`; and `iou`, float64 (N), of the true class's box with the true box that it meets best.

    boxes: of each image the true ones, int (n, 4). at_least_half: Top-1 and Top-5 count an IoU of .5 as GT-known does.
    """
    numbers = np.repeat(np.arange(len(boxes)), [len(each) for each in boxes])
    starts = np.searchsorted(numbers, np.arange(len(boxes)))
    true = np.concatenate(boxes).reshape(-1, 4)

    iou = np.maximum.reduceat(ious(found.true_box[numbers], true), starts)
    in_classes = {f"cls_top{k}": found.rank < k for k in TOP}
    met = iou >= HALF if at_least_half else iou > HALF
    located = {f"loc_top{k}": in_classes[f"cls_top{k}"] & met for k in TOP}

    best = found.best_box[numbers]
    each, shared = ious(best, true), intersections(best, true)
    best_iou = np.maximum.reduceat(each, starts)
    # The first of the true boxes that the best class's meets best.
    nearest = np.minimum.reduceat(np.where(each == best_iou[numbers], np.arange(len(true)), len(true)), starts)
    covered = shared / areas(true)
    several = np.add.reduceat((covered > OBJECT_SHARE).astype(int), starts) > 1
    holds = (
        ~in_classes["cls_top1"],
        best_iou > HALF,
        several,
        shared[nearest] / areas(found.best_box) > PART_SHARE,
        covered[nearest] >= MORE_SHARE,
        np.ones(len(boxes), bool),
    )
    first = np.argmax(holds, axis=0)
    kinds = {kind: first == number for number, kind in enumerate(KINDS)}
    return {**in_classes, **located, "gt_known": iou >= HALF, **kinds, "iou": iou}


def summary(scores: dict[str, np.ndarray]) -> dict[str, float | int]:
    """Of `scores_of`: shares in per cent, and of the kinds of error the numbers of images."""
    shares = {name: 100 * float(values.mean()) for name, values in scores.items() if name not in (*KINDS, "iou")}
    return {**shares, **{kind: int(scores[kind].sum()) for kind in KINDS}}
