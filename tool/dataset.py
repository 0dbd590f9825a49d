"""What a data set is: the names of its classes, whether its masks have a background, their colours, where files lie."""

from dataclasses import dataclass, field

import numpy as np

from tool.colour import voc_palette

IGNORE = 255  # in every label map: a pixel that is left out
MAX_LABELS = 255  # 0 to 254
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".JPG", ".png")


@dataclass(frozen=True)
class DataSet:
    """A data set's own, apart from where a user keeps its files.

    Attributes:
        name: in flags: the one it comes with the project under, or the file that describes it.
        title: in sentences.
        classes: the names of its foreground classes, in its order.
        background: whether label 0 of its masks is background, so that class c is label c + 1; without one class c is
            label c. Pixels of no label are 255, `IGNORE`, either way.
        palette: the colours of its masks, uint8 (256, 3), RGB.
        images: the folders of images below the data set's folder, tried in this order.
        masks: the folders of true masks, <id>.png, below the data set's folder, tried in this order.
        suffixes: what the images' names may end in, tried in this order.
        prepare, relabel, submission: the commands, if there are, that make its lists and labels, label maps of masks
            that hold its colours or another border, and what its server takes of predictions.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    background: bool = True
    palette: np.ndarray = field(default_factory=voc_palette, compare=False, repr=False)
    images: tuple[str, ...] = ("JPEGImages",)
    masks: tuple[str, ...] = ("SegmentationClass",)
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES
    prepare: str | None = None
    relabel: str | None = None
    submission: str | None = None

    @property
    def described_in(self) -> str:
        """The file that has the order of its classes."""
        return self.name if self.name.endswith(".json") else f"{self.name}/classes.py"

    @property
    def num_classes(self) -> int:
        """Of the foreground."""
        return len(self.classes)

    @property
    def num_labels(self) -> int:
        """With the background, where there is one."""
        return len(self.classes) + self.background

    @property
    def label_names(self) -> tuple[str, ...]:
        return ("background", *self.classes) if self.background else self.classes

    def label_of(self, index: int) -> int:
        """The label of class `index` in masks."""
        return index + self.background

    def class_of(self, label: int) -> int:
        """The class that `label`, not background, means."""
        return label - self.background
