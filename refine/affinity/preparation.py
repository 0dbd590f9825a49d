"""From CAM dicts to the posteriors that AffinityNet learns from: which are missing, what a process does for them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from data.images import image_size, load_rgb, with_size
from refine.stale import labels_of_cams
from tool.artifact import load_cam, load_crf, load_whole, save_crf
from tool.crf import crf_seed
from tool.crf.process import CRFProcess
from tool.dataset import DataSet
from tool.limits import reported_limits
from tool.per_image import Job, Processes, Work, make_missing, no_net
from tool.seed_recipe import CRFRecipe


def make_posteriors(
    image_id: str, path: Path, cams: Path, folders: Mapping[CRFRecipe, Path], data_set: DataSet
) -> None:
    """The files of one image, at `path`, in `folders`, from its CAM dict, the file `cams`."""
    image = np.asarray(load_rgb(path))
    maps = load_cam(cams, data_set, shape=image.shape[:2])
    for recipe, folder in folders.items():
        with reported_limits("take fewer --crf_workers, or --crf_backend pydensecrf", at=with_size(path)):
            posteriors = crf_seed(
                image,
                maps,
                recipe=recipe,
                num_classes=data_set.num_classes,
                backend=CRFProcess.backend,
                device=CRFProcess.device,
            )
        save_crf(folder / f"{image_id}.npy", posteriors, data_set)


def labels_made(path: Path, data_set: DataSet, shape: tuple[int, int]) -> list[int]:
    """The labels of an image's posteriors; none where these are missing, damaged or not of its (height, width)."""
    return list(load_whole(load_crf, path, data_set, shape=shape) or ())


def prepare_missing(
    images: Mapping[str, Path],
    cam_dir: Path,
    folders: Mapping[CRFRecipe, Path],
    data_set: DataSet,
    processes: Processes,
) -> None:
    """Make the posteriors of `images`, by id, in each recipe's folder, that are missing, damaged or of other labels
    than the image's CAM dict.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        shape = image_size(path)[::-1]
        cams = cam_dir / f"{image_id}.npy"
        made = {each: labels_made(folder / f"{image_id}.npy", data_set, shape) for each, folder in folders.items()}
        labels = labels_of_cams(cams, data_set) if any(made.values()) else None
        left = {each: folder for each, folder in folders.items() if made[each] != labels}
        return [Job(image_id, None, (path, cams, left, data_set))] if left else []

    make_missing(images, missing, Work(no_net, make_posteriors), processes, gave="posteriors")
