"""What a data set is: the names of its classes, whether its masks have a background, their colours."""

from dataclasses import dataclass, field

import numpy as np

from tool.colour import voc_palette


@dataclass(frozen=True)
class DataSet:
    """A data set's own, apart from where a user keeps its files.

    name: in flags and messages. classes: the names of its foreground classes, in its order. background: whether label
    0 of its masks is background, so that class c is label c + 1; without one class c is label c. ignore: the label of
    pixels that are left out. palette: the colours of its masks, uint8 (256, 3), RGB.
    """

    name: str
    classes: tuple[str, ...]
    background: bool = True
    ignore: int = 255
    palette: np.ndarray = field(default_factory=voc_palette, compare=False, repr=False)

    @property
    def num_classes(self) -> int:
        """Of the foreground."""
        return len(self.classes)

    @property
    def num_labels(self) -> int:
        """With the background, where there is one."""
        return len(self.label_names)

    @property
    def label_names(self) -> tuple[str, ...]:
        return ("background", *self.classes) if self.background else self.classes

    def label_of(self, index: int) -> int:
        """The label of class `index` in masks."""
        return index + self.background

    def class_of(self, label: int) -> int:
        """The class that `label`, not background, means."""
        return label - self.background
