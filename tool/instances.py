"""The file of an image's instances, and their score: VOC's average precision at an IoU of .5 (paper/method.md, IRN).

<id>.npy   {"score": float32 (n), "mask": bool (n, H, W), "class": int64 (n), from 0}
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tool.artifact import save_pickled
from tool.cli import UserError
from tool.dataset import DataSet
from tool.pickled import load_pickled

MIN_IOU = 0.5  # of a found instance with a true one, to be right
KEYS = {"score": "f", "mask": "b", "class": "iu"}  # each with the kinds that its numbers may be of


@dataclass
class Instances:
    """An image's instances: score, mask and class of each, and the image's (height, width)."""

    shape: tuple[int, int]
    scores: list[float] = field(default_factory=list)
    masks: list[np.ndarray] = field(default_factory=list)
    classes: list[int] = field(default_factory=list)

    @classmethod
    def none(cls, shape: tuple[int, int]) -> "Instances":
        return cls(tuple(shape))

    def add(self, score: float, mask: np.ndarray, class_index: int) -> None:
        self.scores.append(score)
        self.masks.append(mask)
        self.classes.append(class_index)

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray, int]]:
        return zip(self.scores, self.masks, self.classes, strict=True)


def save_instances(path: str | Path, instances: Instances) -> None:
    """Write the file. Raises `UserError` where the file system refuses."""
    value = {
        "score": np.array(instances.scores, np.float32),
        "mask": np.array(instances.masks, bool).reshape(len(instances), *instances.shape),
        "class": np.array(instances.classes, np.int64),
    }
    save_pickled(path, value)


def load_instances(path: str | Path, data_set: DataSet, *, shape: tuple[int, int]) -> Instances:
    """Read the file of an image of `shape`, (H, W).

    Raises `UserError` naming the file if it is damaged, holds anything else, classes that `data_set` has not, scores
    that are not finite, or masks of another size.
    """
    value = load_pickled(path)
    if not isinstance(value, dict) or not all(_is_array(value.get(name), kinds) for name, kinds in KEYS.items()):
        found = ", ".join(map(repr, [*value][:5])) if isinstance(value, dict) else type(value).__name__
        raise UserError(f"{path}: expected instances, arrays score, mask and class, found {found or 'an empty dict'}")
    score, mask, classes = (value[name] for name in KEYS)
    if score.ndim != 1 or score.shape != classes.shape or mask.shape != (len(score), *shape):
        sizes = ", ".join(str(array.shape) for array in (score, mask, classes))
        raise UserError(f"{path}: expected score (n), mask (n, {shape[0]}, {shape[1]}) and class (n), found {sizes}")
    if not np.isfinite(score).all() or ((classes < 0) | (classes >= data_set.num_classes)).any():
        raise UserError(f"{path}: expected finite scores of classes 0 to {data_set.num_classes - 1}, found others")
    return Instances(tuple(shape), score.tolist(), [*mask], classes.tolist())


def _is_array(value: Any, kinds: str) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in kinds


def average_precision(images: Iterable[tuple[Instances, Instances]], num_classes: int) -> np.ndarray:
    """VOC's average precision of each class, float64 (num_classes); NaN for one that no image truly has.

    images: of each the found instances and the true ones, whose scores do not count. A found one is right if the true
    one of its class with which it has the largest IoU has at least `MIN_IOU`, and none of a higher score had that one.
    The area below the curve of precision over recall, made to fall only.
    """
    scores: list[list[float]] = [[] for _ in range(num_classes)]
    right: list[list[bool]] = [[] for _ in range(num_classes)]
    counts = np.zeros(num_classes, np.int64)
    for found, true in images:
        for index in {*found.classes, *true.classes}:
            truths = [mask for _, mask, label in true if label == index]
            counts[index] += len(truths)
            taken = set()
            own = sorted(((score, mask) for score, mask, label in found if label == index), key=lambda each: -each[0])
            for score, mask in own:
                overlaps = [_iou(mask, truth) for truth in truths]
                best = int(np.argmax(overlaps)) if overlaps else -1
                is_right = best >= 0 and overlaps[best] >= MIN_IOU and best not in taken
                if best >= 0 and overlaps[best] >= MIN_IOU:
                    taken.add(best)
                scores[index].append(score)
                right[index].append(is_right)
    return np.array(
        [
            _area(np.array(each), np.array(hits, bool), count)
            for each, hits, count in zip(scores, right, counts, strict=True)
        ]
    )


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    both = np.count_nonzero(first & second)
    either = np.count_nonzero(first | second)
    return both / either if either else 0.0


def _area(scores: np.ndarray, right: np.ndarray, count: int) -> float:
    if not count:
        return float("nan")
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    recall = np.concatenate([[0.0], hits / count])
    precision = hits / np.arange(1, len(hits) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * highest).sum())
