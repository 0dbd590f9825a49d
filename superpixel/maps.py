"""Superpixels as files, as pictures, and scored on masks; whatever made them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from superpixel.measures import borders, superpixel_counts
from tool.artifact import atomic_file, load_label_map
from tool.checks import run_checks
from tool.cli import UserError
from tool.dataset import DataSet
from tool.pickled import load_pickled

BORDER = (255, 255, 0)  # its colour in pictures, RGB


def save_superpixels(path: Path, superpixels: np.ndarray) -> None:
    """Write the superpixel of each pixel, int32 (H, W), not negative, as .npy."""
    with atomic_file(path) as file:
        np.save(file, superpixels.astype(np.int32))


def load_superpixels(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read what `save_superpixels` wrote, or any map of whole numbers below the number of pixels: integers (H, W).

    Raises `UserError` naming the file if it is missing, damaged, not of `shape`, (height, width), or holds others.
    """
    found = load_pickled(path, numbers=True)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "iu" or found.shape != tuple(shape):
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        raise UserError(f"{path}: expected whole numbers of shape {tuple(shape)} (height, width), found {what}")
    if found.min() < 0 or found.max() >= found.size:
        raise UserError(f"{path}: expected numbers of superpixels, 0 to {found.size - 1}, found {found.min()} to "
                        f"{found.max()}")  # fmt: skip
    return found


def outlined(image: Image.Image, superpixels: np.ndarray) -> Image.Image:
    """An RGB image with the borders of its superpixels, integers (H, W), over it."""
    pixels = np.array(image)
    pixels[borders(superpixels)] = BORDER
    return Image.fromarray(pixels)


def save_outlined(path: Path, image: Image.Image, superpixels: np.ndarray) -> None:
    """Write `outlined` as a PNG."""
    with atomic_file(path) as file:
        outlined(image, superpixels).save(file, "PNG")


def score(folder: Path, masks: Mapping[str, Path], data_set: DataSet) -> tuple[np.ndarray, dict[str, int]]:
    """The summed counts, int64 (5,), of `superpixel_counts`, and the number of superpixels of each of `masks`, by id.

    `folder` has `<id>.npy`, of the mask's size. Raises `UserError` naming a file that is not so.
    """
    total, numbers = np.zeros(5, np.int64), {}

    def count(image_id: str) -> list[tuple[str, np.ndarray, int]]:
        mask = load_label_map(masks[image_id], data_set)
        superpixels = load_superpixels(folder / f"{image_id}.npy", mask.shape)
        return [(image_id, superpixel_counts(superpixels, mask), len(np.unique(superpixels)))]

    for image_id, counts, number in run_checks(count, list(masks), "superpixels against masks"):
        total += counts
        numbers[image_id] = number
    return total, numbers
