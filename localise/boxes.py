"""From a class's map to its box, and how well a box meets true ones (paper/method.md, Object localisation)."""

import cv2
import numpy as np

NO_BOX = (0, 0, 1, 1)  # of a map that shows nothing


def box_of(scores: np.ndarray, *, threshold: float, side: int) -> tuple[int, int, int, int]:
    """The box (left, top, right, bottom) around the largest part of a map that is above the threshold.

    scores: float32 (h, w) of one class, of an image resized to side x side pixels, in which the box is measured.
    threshold: share of the maximum, 0 to 1. The right and lower edges are one beyond the part's last pixels.

    `NO_BOX` where nothing is above: also of a constant map, of which the released code makes NaN.
    """
    scores = cv2.resize(scores, (side, side))
    low, high = scores.min(), scores.max()
    if not high > low:
        return NO_BOX
    grey = ((scores - low) / (high - low) * 255).astype(np.uint8)
    above = (grey > int(threshold * grey.max())).astype(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return NO_BOX
    left, top, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))  # the first of equals
    return left, top, left + width, top + height


def areas(boxes: np.ndarray) -> np.ndarray:
    """Pixels of boxes (..., 4), both ends in."""
    boxes = boxes.astype(np.int64)  # which may come as int16
    return (boxes[..., 2] - boxes[..., 0] + 1) * (boxes[..., 3] - boxes[..., 1] + 1)


def intersections(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Pixels that boxes (..., 4) share with others (..., 4), which broadcast."""
    boxes, others = boxes.astype(np.int64), others.astype(np.int64)
    first = np.maximum(boxes[..., :2], others[..., :2])
    last = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.clip(last - first + 1, 0, None).prod(axis=-1)


def ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (..., 4) and others (..., 4), float64."""
    shared = intersections(boxes, others)
    return shared / (areas(boxes) + areas(others) - shared)
