"""Pictures of results: label maps in their colours, heat maps, errors, overlays with a legend, and threshold curves."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from tool.artifact import atomic_file
from tool.cli import printable
from tool.dataset import IGNORE, DataSet

# Perceptually uniform: equal steps of score look like equal steps of colour, also in grey and to the colour-blind.
HEAT_MAP = "magma"
# Told apart by the colour-blind, too (Okabe and Ito, Color Universal Design, 2008).
ERROR_COLOURS = {"missed": (213, 94, 0), "false": (86, 180, 233), "confused": (204, 121, 167)}

OPACITY = 0.6  # of what lies on an image, in `overlay`
_GAP, _LINE = 8, 18  # pixels between pictures; of a line of text
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


@functools.cache
def _heat_palette() -> np.ndarray:
    from matplotlib import colormaps  # slow to import

    return (colormaps[HEAT_MAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def heat_colours(scores: np.ndarray) -> np.ndarray:
    """Colours of scores, (H, W) clipped to 0..1, on a perceptually uniform scale: uint8 (H, W, 3), RGB."""
    return _heat_palette()[(np.clip(scores, 0, 1) * 255).round().astype(np.uint8)]


def label_colours(labels: np.ndarray, data_set: DataSet) -> np.ndarray:
    """The data set's colours of a label map, uint8 (H, W): uint8 (H, W, 4), RGBA; background is transparent, all else
    opaque."""
    alpha = np.where(is_background(labels, data_set), 0, 255).astype(np.uint8)
    return np.dstack([data_set.palette[labels], alpha])


def is_background(labels: np.ndarray, data_set: DataSet) -> np.ndarray:
    """Which of `labels` are background, bool of their shape; none where the data set has none."""
    return (labels == 0) & data_set.background


def error_colours(prediction: np.ndarray, truth: np.ndarray, data_set: DataSet) -> np.ndarray:
    """Where a label map is wrong, in `ERROR_COLOURS`; transparent where it is right or the truth is 255.

    prediction, truth: uint8 (H, W). Missed: an object called background; false: background called an object; confused:
    an object called another. Returns uint8 (H, W, 4), RGBA.
    """
    wrong = (prediction != truth) & (truth != IGNORE)
    missed, false = is_background(prediction, data_set), is_background(truth, data_set)
    kinds = {"missed": missed, "false": false, "confused": ~missed & ~false}
    colours = np.zeros((*truth.shape, 4), np.uint8)
    for kind, there in kinds.items():
        colours[wrong & there] = (*ERROR_COLOURS[kind], 255)
    return colours


def blend(image: np.ndarray, colours: np.ndarray, *, opacity: float) -> np.ndarray:
    """`colours`, uint8 (H, W, 3) or with alpha (H, W, 4), over an RGB image, uint8 (H, W, 3); opacity 0..1."""
    alpha = np.full(image.shape[:2], 255, np.uint8) if colours.shape[2] == 3 else colours[..., 3]
    share = opacity * alpha[..., None] / 255
    return (image * (1 - share) + colours[..., :3] * share).round().astype(np.uint8)


def _write(canvas: np.ndarray, text: str, left: int, top: int) -> None:
    cv2.putText(canvas, text, (left, top + _LINE - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0]


def _legend(labels: Sequence[int], width: int, data_set: DataSet) -> np.ndarray:
    """Swatches and names of `labels`, in as many lines as they need: uint8 (h, width, 3)."""
    places, left, top = [], 0, 0
    for label in labels:
        name = "ignored" if label == IGNORE else data_set.label_names[label]
        step = _LINE + _text_width(name) + 2 * _GAP
        if left and left + step > width:
            left, top = 0, top + _LINE
        places.append((label, name, left, top))
        left += step
    legend = np.full((top + _LINE, width, 3), _PAPER, np.uint8)
    for label, name, x, y in places:
        cv2.rectangle(legend, (x + 2, y + 3), (x + 13, y + 14), data_set.palette[label].tolist(), cv2.FILLED)
        cv2.rectangle(legend, (x + 2, y + 3), (x + 13, y + 14), _INK, 1)
        _write(legend, name, x + _LINE, y)
    return legend


def overlay(
    image: np.ndarray,
    cams: Mapping[int, np.ndarray],
    label_maps: Mapping[str, np.ndarray],
    data_set: DataSet,
) -> np.ndarray:
    """An image, its CAMs as heat and its label maps in their colours, side by side, with their names and a legend.

    Args:
        image: uint8 (H, W, 3), RGB.
        cams: {class: (H, W) in 0..1}. label_maps: {title: uint8 (H, W), labels of the data set or 255}.

    Returns:
        uint8 (h, w, 3), RGB.
    """
    pictures = {"image": image}
    for index, scores in sorted(cams.items()):
        pictures[f"CAM {data_set.classes[index]}"] = blend(image, heat_colours(scores), opacity=OPACITY)
    for title, labels in label_maps.items():
        pictures[title] = blend(image, label_colours(labels, data_set), opacity=OPACITY)
    height, width = image.shape[:2]
    step = max(width, *map(_text_width, pictures)) + _GAP
    canvas = np.full((_LINE + height, step * len(pictures) - _GAP, 3), _PAPER, np.uint8)
    for place, (title, picture) in enumerate(pictures.items()):
        _write(canvas, title, place * step, 0)
        canvas[_LINE:, place * step :][:, :width] = picture
    shown = {int(label) for labels in label_maps.values() for label in np.unique(labels)}
    shown = sorted(shown - ({0} if data_set.background else set()))
    return np.vstack([canvas, _legend(shown, canvas.shape[1], data_set)]) if shown else canvas


def save_overlay(
    path: str | Path,
    image: np.ndarray,
    cams: Mapping[int, np.ndarray],
    label_maps: Mapping[str, np.ndarray],
    data_set: DataSet,
) -> None:
    """Write `overlay`'s picture as a PNG. Raises `UserError` where the file system refuses."""
    picture = overlay(image, cams, label_maps, data_set)
    with atomic_file(path) as file:
        file.write(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def save_curve(path: Path, curves: Mapping[str, Sequence[float]], *, thresholds: Sequence[float]) -> None:
    """Draw mIoU, per cent, over the background threshold, one line for each name in `curves`, its best point marked.

    The suffix of `path` says the format: .png, .pdf or .svg. Raises `UserError` where the file system refuses.
    """
    from matplotlib.figure import Figure  # slow to import, and a figure of its own needs no display

    axes = Figure(figsize=(6, 4), layout="constrained").subplots()
    for name, values in curves.items():
        best = int(np.argmax(values))
        (line,) = axes.plot(thresholds, values)
        name = printable(name).replace("$", r"\$")  # which would begin a formula
        label = f"{name}: {values[best]:.2f} at {thresholds[best]:.2f}"
        axes.plot(thresholds[best], values[best], "o", color=line.get_color(), label=label)
    axes.set(xlabel="background threshold", ylabel="mIoU (%)")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with atomic_file(path) as file:
        axes.figure.savefig(file, format=path.suffix[1:], dpi=150)
