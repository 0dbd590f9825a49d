"""How well superpixels keep to masks: a network's, SLIC's at as many, and a grid's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from skimage.segmentation import slic

from data.images import load_rgb
from network.cells import CELL
from network.scn import SCN, load_scn
from superpixel.inference import superpixels_of
from superpixel.measures import NAMES, figures, superpixel_counts
from tool.artifact import load_label_map
from tool.dataset import DataSet


def grid_of(shape: tuple[int, int]) -> np.ndarray:
    """Cells of 16 x 16, integers (H, W)."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] // CELL
    return rows * -(-shape[1] // CELL) + columns


def print_table(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    *,
    weights: Path,
    data_set: DataSet,
    device: torch.device,
) -> None:
    """Score each way on `images` and `masks`, by id, and print a table, in per cent."""
    net = SCN()
    print(load_scn(net, weights))
    net = net.eval().requires_grad_(False).to(device)
    kinds = {
        "grid of 16 x 16": lambda image, grid: grid,
        "SLIC": lambda image, grid: slic(np.asarray(image), n_segments=int(grid.max()) + 1, start_label=0),
        "SCN": lambda image, grid: superpixels_of(net, image, device),
    }
    counts = {kind: np.zeros(5, np.int64) for kind in kinds}
    numbers = dict.fromkeys(kinds, 0)
    for image_id, path in images.items():
        image, mask = load_rgb(path), load_label_map(masks[image_id], data_set)
        grid = grid_of(mask.shape)
        for kind, make in kinds.items():
            found = make(image, grid)
            counts[kind] += superpixel_counts(found, mask)
            numbers[kind] += len(np.unique(found))
    print(f"| {len(images)} images | superpixels an image | {' | '.join(NAMES)} |")
    print("| --- | --- | --- | --- | --- |")
    for kind, of_kind in counts.items():
        shown = " | ".join(f"{100 * value:.2f}" for value in figures(of_kind).values())
        print(f"| {kind} | {numbers[kind] / len(images):.0f} | {shown} |")
