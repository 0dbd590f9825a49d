"""From the CAM dicts of several runs to their mean and its seeds: which files are missing, and an image's part."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.images import image_size
from method.outputs import Outputs
from method.seeds import make_seeds
from tool.artifact import load_cam, load_whole, save_cam
from tool.cli import UserError
from tool.dataset import DataSet
from tool.per_image import Job, Processes, Work, make_missing, no_net
from tool.seed_recipe import CRFRecipe


def mean_cam(
    paths: Sequence[Path], data_set: DataSet, *, shape: tuple[int, int] | None = None
) -> dict[int, np.ndarray]:
    """The mean of the CAM dicts in `paths`, class by class: class -> float32 (H, W), 0 to 1; of one alone, that.

    A class that one of several runs is silent about, -1 throughout where its seeds are scaled by their minimum too,
    counts as 0 there, as in runs whose seeds are not.

    Raises `UserError` for a file that cannot be read, one of another shape, and one of other classes than the first.
    """
    first = load_cam(paths[0], data_set, shape=shape)
    if len(paths) == 1:
        return first
    total = {label: np.maximum(cam, 0, dtype=np.float64) for label, cam in first.items()}
    for path in paths[1:]:
        cams = load_cam(path, data_set, shape=shape)
        if cams.keys() != first.keys():
            names = [" ".join(data_set.classes[label] for label in each) or "none" for each in (first, cams)]
            raise UserError(f"{path}: expected the classes of {paths[0]}, {names[0]}; found {names[1]}")
        for label, cam in cams.items():
            total[label] += np.maximum(cam, 0)
    return {label: (cam / len(paths)).astype(np.float32) for label, cam in total.items()}


def merge(
    image_id: str,
    folders: Sequence[Path] | None,
    label_map: bool,
    settings: list[CRFRecipe],
    path: Path,
    outputs: Outputs,
) -> None:
    """Write the files of the image at `path` that are missing: of the mean of the CAM dicts in `folders`, which is
    written first, or, without `folders`, of the mean that is there."""
    if folders is not None:
        shape = image_size(path)[::-1]
        cams = mean_cam([folder / f"{image_id}.npy" for folder in folders], outputs.data_set, shape=shape)
        outputs.remove_seeds(image_id)
        save_cam(outputs.cam_npy / f"{image_id}.npy", cams, outputs.data_set)
    make_seeds(image_id, label_map, settings, path, outputs)


def merge_missing(images: Mapping[str, Path], folders: Sequence[Path], outputs: Outputs, processes: Processes) -> None:
    """Make the files of `outputs` that are missing or damaged, of `images`, by id, from the CAM dicts in `folders`.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        shape = image_size(path)[::-1]
        cams = load_whole(load_cam, folders[0] / f"{image_id}.npy", outputs.data_set, shape=shape)
        classes = [] if cams is None else list(cams)
        if cams is None or not outputs.has_cam(image_id, classes, shape):  # `merge` says what is wrong with the first
            return [Job(image_id, None, (folders, True, list(outputs.crf), path, outputs))]
        label_map, settings = outputs.missing_seeds(image_id, classes, shape)
        if label_map or settings or outputs.lacks_overlay(image_id):
            return [Job(image_id, None, (None, label_map, settings, path, outputs))]
        return []

    make_missing(images, missing, Work(no_net, merge, names=("net", "seed")), processes, gave="seeds")
