"""Intersection over union from exact integer counts, at one threshold or at many in one pass over the pixels.

Counts are int64 (3, ..., L): true positives, ground-truth pixels, predicted pixels of each of L labels. Those of many
images are summed before `iou` is taken, since the score is that of the whole list.

Shape suffixes: L labels, C classes present in an image, T thresholds, N pixels that are not left out.
"""

import shlex
from collections.abc import Sequence

import numpy as np

from tool.dataset import IGNORE

CURVE = tuple(k / 100 for k in range(60))  # the background scores of a threshold curve
SWEEP = tuple(k / 100 for k in range(10, 45, 5))  # and of MSA's


def label_counts(prediction: np.ndarray, target: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Counts, int64 (3, L), of one label map.

    prediction: integers (H, W), 0 to L - 1.
    target: integers (H, W), 0 to L - 1, or 255 where the pixel is left out.

    Raises `ValueError` for maps of different size or labels out of range, which would be counted as others.
    """
    return counts_of(confusion_matrix(prediction, target, num_labels=num_labels))


def confusion_matrix(prediction: np.ndarray, target: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Pixels by true and predicted label, int64 (L, L); arguments and errors are those of `label_counts`."""
    _check_target(target, prediction.shape, num_labels)
    if prediction.size and (prediction.min() < 0 or prediction.max() >= num_labels):
        raise ValueError(f"expected predicted labels 0 to {num_labels - 1}, found up to {prediction.max()}")
    valid = target != IGNORE
    pairs = target[valid].astype(np.intp) * num_labels + prediction[valid]
    return np.bincount(pairs, minlength=num_labels**2).reshape(num_labels, num_labels)


def counts_of(confusion_LL: np.ndarray) -> np.ndarray:
    """The counts, int64 (3, L), in a confusion matrix."""
    return np.stack([confusion_LL.diagonal(), confusion_LL.sum(1), confusion_LL.sum(0)])


def threshold_counts(
    cams: dict[int, np.ndarray], target: np.ndarray, *, thresholds: Sequence[float], num_labels: int
) -> np.ndarray:
    """Counts, int64 (3, T, L), of one image's CAMs against a constant background score, for T background scores.

    For labels with a background, which is label 0.

    cams: {class: float32 (H, W), finite}, class c being label c + 1; may be empty.
    target: uint8 (H, W), 0 to L - 1, or 255 where the pixel is left out.
    thresholds: the background scores, ascending, none below 0; compared as float32.

    At each threshold t the prediction is the argmax over [t, class 0, class 1, ...], the first of equal scores, where
    a class that is not in `cams` scores 0. So background wins ties, and an absent class, never above t, wins nothing:
    a pixel's class is the best of the present ones wherever its score is above t. One histogram of (label, best
    class, number of thresholds below the score) then holds the counts of every threshold.
    """
    levels = np.asarray(thresholds, np.float32)
    if not levels.size or levels[0] < 0 or np.any(np.diff(levels) < 0):
        raise ValueError(f"expected ascending thresholds of at least 0, got {thresholds}")
    classes = sorted(cams)
    scores = [cams[c] for c in classes] or [np.zeros(target.shape, np.float32)]
    _check_target(target, scores[0].shape, num_labels)

    num_bins = len(levels) + 1
    valid = target != IGNORE
    scores_CN = np.stack([score[valid] for score in scores], dtype=np.float32)
    bins_N = np.searchsorted(levels, scores_CN.max(axis=0), side="left")
    places = (target[valid].astype(np.intp) * len(scores) + scores_CN.argmax(axis=0)) * num_bins + bins_N
    histogram = np.bincount(places, minlength=num_labels * len(scores) * num_bins)
    histogram = histogram.reshape(num_labels, len(scores), num_bins)
    # Pixels of each label that get each class at threshold k: those with more than k thresholds below their score.
    won_LCT = histogram[:, :, :0:-1].cumsum(axis=2)[:, :, ::-1]

    counts = np.zeros((3, len(levels), num_labels), np.int64)
    true_positive, truth, predicted = counts
    truth[:] = histogram.sum(axis=(1, 2))
    labels = np.array(classes, np.intp) + 1
    true_positive[:, labels] = won_LCT[labels, np.arange(len(labels))].T
    predicted[:, labels] = won_LCT.sum(axis=0)[: len(labels)].T
    true_positive[:, 0] = truth[:, 0] - won_LCT[0].sum(axis=0)
    predicted[:, 0] = len(places) - won_LCT.sum(axis=(0, 1))
    return counts


def iou(counts: np.ndarray) -> np.ndarray:
    """Intersection over union in 0..1, float64 (..., L), from counts (3, ..., L).

    A label in neither prediction nor ground truth gets 0, and a mean over all labels has them all in its divisor.
    """
    true_positive, truth, predicted = counts
    return true_positive / np.maximum(truth + predicted - true_positive, 1)


def false_rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False positives and false negatives in 0..1, each float64 (..., L), as shares of what `iou` divides by, so that
    the three sum to 1 for a label that occurs; from counts (3, ..., L)."""
    true_positive, truth, predicted = counts
    union = np.maximum(truth + predicted - true_positive, 1)
    return (predicted - true_positive) / union, (truth - true_positive) / union


def occurs(counts: np.ndarray) -> np.ndarray:
    """Whether prediction or ground truth has each label, bool (..., L), from counts (3, ..., L)."""
    return counts[1] + counts[2] > 0


def accuracies(counts: np.ndarray) -> dict[str, float | list[float | None]]:
    """The scores of deeplab-pytorch, in 0..1, from counts (3, L).

    Means are over the labels that the ground truth has; the IoU of a label that neither it nor the prediction has is
    None. NaN where the ground truth has none.
    """
    true_positive, truth, predicted = counts.astype(np.float64)
    there, union = truth > 0, truth + predicted - true_positive
    with np.errstate(invalid="ignore", divide="ignore"):
        share, accuracy, overlap = truth / truth.sum(), true_positive / truth, true_positive / union
        return {
            "Pixel Accuracy": float(true_positive.sum() / truth.sum()),
            "Mean Accuracy": float(accuracy[there].mean()),
            "Frequency Weighted IoU": float((share * overlap)[there].sum()),
            "Mean IoU": float(overlap[there].mean()),
            "Class IoU": [None if size == 0 else float(value) for value, size in zip(overlap, union, strict=True)],
        }


def about_absent(absent: Sequence[str], present: Sequence[str], mean: float | None) -> str:
    """What a reader of a mean over `absent` and `present` labels should know; "" where all of them occur.

    mean: over the present ones alone, in per cent; None where there are none.
    """
    if not absent:
        return ""
    about = (
        f"{len(absent)} of {len(absent) + len(present)} labels occur in neither prediction nor ground truth and count"
        " as 0"
    )
    if mean is None:
        return about
    return f"{about}; mIoU over the {len(present)} that occur is {mean:.2f} (eval.py: --classes {shlex.join(present)})"


def _check_target(target: np.ndarray, shape: tuple[int, ...], num_labels: int) -> None:
    if target.shape != shape:
        raise ValueError(f"expected ground truth of the prediction's shape {shape}, got {target.shape}")
    if np.any((target >= num_labels) & (target != IGNORE)) or target.dtype.kind not in "iu" or np.any(target < 0):
        raise ValueError(f"expected integer ground truth of 0 to {num_labels - 1} or {IGNORE}")


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the classes that occur of the mean precision at their images' ranks, 0..1.

    scores: float (N, C), any range; ties keep the images' order. truth: (N, C), 1 where image n has class c.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(truth, order, axis=0) > 0
    precision = np.cumsum(hits, axis=0) / np.arange(1, len(hits) + 1)[:, None]
    occurs = hits.any(axis=0)
    return float(((precision * hits).sum(0)[occurs] / hits.sum(0)[occurs]).mean())
