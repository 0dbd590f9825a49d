"""Pieces of the figures: a sheet in inches with pictures, arrows and words on it, and its file."""

import io
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from PIL import Image
from torch import Tensor

from tool.artifact import atomic_file, load_label_map
from tool.plot import blend, heat_colours, label_colours
from voc12.classes import VOC12

DPI = 130
ENLARGED = 4  # pictures, so that their pixels stay squares when the sheet is drawn
COLOURS = 256  # of a file
# Opaque, so that a page may be light or dark.
PAPER, INK, FAINT, MARK = "#ffffff", "#202124", "#70757a", "#00c2ff"


class Sheet:
    """A figure whose places are (left, top) in inches."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), facecolor=PAPER)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.tick_params(labelsize=7, length=2, colors=INK)
        return axes

    def picture(self, left: float, top: float, size: float, pixels: np.ndarray, title: str = "") -> Axes:
        """RGB `pixels` in a square of `size`, their shape kept; the title stands above."""
        axes = self.axes(left, top, size, size)
        axes.imshow(pixels, aspect="equal", interpolation="antialiased")
        axes.set_anchor("N")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color(FAINT)
        axes.spines[:].set_linewidth(0.6)
        if title:
            self.text(left + size / 2, top - 0.06, title, ha="center", va="bottom")
        return axes

    def text(
        self, left: float, top: float, words: str, *, size: float = 8, colour: object = INK, **how: object
    ) -> None:
        self.figure.text(left / self.width, 1 - top / self.height, words, fontsize=size, color=colour, **how)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], *, bend: float = 0) -> None:
        places = [(left / self.width, 1 - top / self.height) for left, top in (start, end)]
        style = {"arrowstyle": "-|>", "mutation_scale": 9, "linewidth": 1, "color": FAINT, "shrinkA": 0, "shrinkB": 0}
        arrow = FancyArrowPatch(*places, transform=self.figure.transFigure, connectionstyle=f"arc3,rad={bend}", **style)
        self.figure.add_artist(arrow)

    def legend(self, left: float, top: float, labels: list[int]) -> None:
        """The labels' colours and names, one below the other."""
        for place, label in enumerate(labels):
            self.text(left, top + 0.2 * place, "\u25a0", size=11, colour=colour_of(label), va="center")
            self.text(left + 0.18, top + 0.2 * place, name_of(label), va="center")

    def save(self, path: Path) -> None:
        """Write a PNG of few colours. Raises `UserError` where the file system refuses."""
        drawn = io.BytesIO()
        self.figure.savefig(drawn, format="png", dpi=DPI)
        picture = Image.open(drawn).convert("RGB").quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=0)
        with atomic_file(path) as file:
            picture.save(file, format="png", optimize=True)


def name_of(label: int) -> str:
    """Of a label as the method counts: classes from 0, background last."""
    return VOC12.label_names[(label + 1) % VOC12.num_labels]


def colour_of(label: int) -> tuple[float, ...]:
    """VOC's, for matplotlib; a grey for background, whose black is for outlines."""
    return (0.6, 0.6, 0.6) if label == VOC12.num_classes else tuple(VOC12.palette[label + 1] / 255)


def enlarge(pixels: np.ndarray) -> np.ndarray:
    """A photograph, uint8 (H, W, 3), at `ENLARGED` times its size."""
    height, width = pixels.shape[:2]
    return cv2.resize(pixels, (width * ENLARGED, height * ENLARGED), interpolation=cv2.INTER_CUBIC)


def _spread(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(h, w) values at the nearest of the (H, W) pixels, corners aligned as everywhere in the method."""
    rows, columns = (
        (np.arange(side) * (cells - 1) / (side - 1)).round().astype(int)
        for side, cells in zip(size, grid.shape, strict=True)
    )
    return grid[np.ix_(rows, columns)]


def greyed(photograph: np.ndarray) -> np.ndarray:
    """A photograph, enlarged and with hardly any colour, so that those which are laid on it keep theirs."""
    image = enlarge(photograph)
    return blend(image, np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2), opacity=0.8)


def heat(photograph: np.ndarray, scores: Tensor | np.ndarray, *, opacity: float = 0.75) -> np.ndarray:
    """Scores, (h, w) clipped to 0..1, as heat on a photograph."""
    image = greyed(photograph)
    return blend(image, heat_colours(_spread(np.asarray(scores), image.shape[:2])), opacity=opacity)


def labelled(photograph: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A label map of VOC's, uint8 (h, w), in its colours on a photograph."""
    image = greyed(photograph)
    return blend(image, label_colours(_spread(labels, image.shape[:2]), VOC12), opacity=0.7)


def pseudo_labelled(photograph: np.ndarray, pseudo: Tensor) -> np.ndarray:
    """As `labelled`, of labels as the method counts them."""
    return labelled(photograph, ((pseudo.numpy() + 1) % VOC12.num_labels).astype(np.uint8))


def file_labelled(photograph: np.ndarray, path: Path) -> np.ndarray:
    """As `labelled`, of a label map's file."""
    return labelled(photograph, load_label_map(path, VOC12))
