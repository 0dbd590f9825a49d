"""From CAM dicts to the posteriors that AffinityNet learns from: which are missing, what a process does for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.images import image_size, load_rgb, with_size
from data.missing import make_missing
from tool.artifact import load_cam, load_crf, save_crf
from tool.cli import UserError
from tool.crf import crf_seed
from tool.crf.process import CRFProcess
from tool.dataset import DataSet
from tool.limits import reported_limits
from tool.per_image import Job, Work, no_net
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


def is_there(path: Path, data_set: DataSet, shape: tuple[int, int]) -> bool:
    """Whether the posteriors of an image are there, whole and of its (height, width)."""
    try:
        return path.exists() and bool(load_crf(path, data_set, shape=shape))
    except UserError:
        return False


def prepare_missing(
    images: Mapping[str, Path],
    cam_dir: Path,
    folders: Mapping[CRFRecipe, Path],
    data_set: DataSet,
    *,
    devices: Sequence[str],
    crf_backend: str,
    crf_workers: int,
) -> None:
    """Make the posteriors of `images`, by id, in each recipe's folder, that are missing or damaged.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        shape = image_size(path)[::-1]
        left = {
            recipe: folder
            for recipe, folder in folders.items()
            if not is_there(folder / f"{image_id}.npy", data_set, shape)
        }
        return [Job(image_id, None, (path, cam_dir / f"{image_id}.npy", left, data_set))] if left else []

    make_missing(
        images,
        missing,
        Work(no_net, make_posteriors),
        gave="posteriors",
        devices=devices,
        crf_backend=crf_backend,
        crf_workers=crf_workers,
    )
