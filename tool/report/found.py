"""What was found on the images of a report, summed as they come: of those that are not shown nothing else is kept."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tool.report.image import Findings
from tool.report.score import image_iou


class Shown(NamedTuple):
    """What the page needs of an image: its labels and its pictures, as `Findings` has them, and the mean IoU, 0..100,
    of its label maps by (run, stage), None where all of its truth is 255."""

    labels: list[int]
    ious: dict[tuple[int, str], float | None]
    pictures: Mapping[str, bytes]


@dataclass
class Found:
    """The sums over all images, and the images that are shown.

    Attributes:
        counts, confusions: the sums of those of `Findings`, by the same keys.
        labels: by stage, in the truths of how many images with such a label map each label is, without background.
        shown: those that have pictures, by id.
        problems: by id, of the images with files that cannot be used, of which nothing else is kept.
    """

    counts: dict[int, np.ndarray] = field(default_factory=dict)
    confusions: dict[tuple[int, str], np.ndarray] = field(default_factory=dict)
    labels: dict[str, Counter[int]] = field(default_factory=dict)
    shown: dict[str, Shown] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def add(self, image_id: str, findings: Findings) -> None:
        """Take in what is on an image."""
        if findings.problems:
            self.problems[image_id] = findings.problems
            return
        for run, counts in findings.counts.items():
            self.counts[run] = self.counts.get(run, 0) + counts
        for key, confusion in findings.confusions.items():
            self.confusions[key] = self.confusions.get(key, 0) + confusion
        for stage in {stage for _, stage in findings.confusions}:
            self.labels.setdefault(stage, Counter()).update(findings.labels)
        if findings.pictures:
            ious = {key: image_iou(confusion) for key, confusion in findings.confusions.items()}
            self.shown[image_id] = Shown(findings.labels, ious, findings.pictures)
