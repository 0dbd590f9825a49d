"""Scores of label maps that say what to look at: every confusion of labels, and what it costs.

Shape suffixes: L labels, in the order truth, prediction.
"""

from typing import NamedTuple

import numpy as np

from tool.metric import counts_of, iou


class Confusion(NamedTuple):
    """Pixels of label `truth` that are called `predicted`, and the points of IoU, 0..100, that they cost a label."""

    truth: int
    predicted: int
    points: float


def label_iou(confusion_LL: np.ndarray) -> np.ndarray:
    """IoU of every label in 0..100, float64 (L,); 0 for one that does not occur, as in `tool.metric.iou`."""
    return 100 * iou(counts_of(confusion_LL))


def image_iou(confusion_LL: np.ndarray) -> float | None:
    """The mean IoU, 0..100, of the labels that occur in an image's truth or prediction; None if all of it is 255."""
    occurs = (confusion_LL.sum(0) + confusion_LL.sum(1)) > 0
    return float(label_iou(confusion_LL)[occurs].mean()) if occurs.any() else None


def costliest_confusions(confusion_LL: np.ndarray) -> list[Confusion | None]:
    """For every label the confusion whose mending alone would raise its IoU most; None if it has none.

    Mending its pixels that are called another label turns them into hits; mending another's pixels that are called by
    its name takes them out of the union.
    """
    hits = confusion_LL.diagonal()
    union = confusion_LL.sum(0) + confusion_LL.sum(1) - hits
    costliest: list[Confusion | None] = []
    for label in range(len(confusion_LL)):
        if not union[label]:
            costliest.append(None)
            continue
        missed, false = confusion_LL[label].copy(), confusion_LL[:, label].copy()
        missed[label] = false[label] = 0
        by_missed = missed / union[label]
        by_false = hits[label] / np.maximum(union[label] - false, 1) - hits[label] / union[label]
        other_missed, other_false = int(by_missed.argmax()), int(by_false.argmax())
        candidates = [
            Confusion(label, other_missed, 100 * float(by_missed[other_missed])),
            Confusion(other_false, label, 100 * float(by_false[other_false])),
        ]
        worst = max(candidates, key=lambda confusion: confusion.points)
        costliest.append(worst if worst.points > 0 else None)
    return costliest
