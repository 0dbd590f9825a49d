"""From CAM dicts to the label maps that IRN learns from: which are missing, and what a process does for one."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from data.descriptions import find_data_set
from data.images import image_size, load_rgb, with_size
from refine.stale import has_label_map_of_cams
from tool.artifact import load_cam, save_label_map
from tool.cam import labels_of_scores
from tool.crf import crf_from_labels
from tool.crf.process import CRFProcess
from tool.dataset import IGNORE, DataSet
from tool.device import numbers_on
from tool.limits import reported_limits
from tool.per_image import Job, Processes, Work, make_missing, no_net
from tool.seed_recipe import LABEL_KERNELS

# paper/method.md, IRN
GT_PROB, ITERATIONS = 0.7, 10


def sure_labels(
    image: np.ndarray,
    cams: dict[int, np.ndarray],
    *,
    foreground: float,
    background: float,
    backend: str,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """What is sure of each pixel, uint8 (H, W): 0 background, class + 1, 255 neither.

    image: uint8 (H, W, 3), RGB. cams: {class: float32 (H, W)}; without one all is background. foreground, background:
    what the background scores where a class has to be sure, and where it has.
    """
    if not cams:
        return np.zeros(image.shape[:2], np.uint8)
    classes = sorted(cams)
    scores = torch.from_numpy(np.stack([cams[index] for index in classes])).to(device)
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W"))).to(device)

    def refined(threshold: float) -> torch.Tensor:
        labels = torch.cat([torch.full_like(scores[:1], threshold), scores]).argmax(dim=0)
        (found,) = crf_from_labels(
            pixels[None],
            labels[None],
            num_labels=len(classes) + 1,
            gt_prob=GT_PROB,
            kernels=LABEL_KERNELS,
            iterations=ITERATIONS,
            backend=backend,
        )
        return found

    sure_class, sure_background = refined(foreground), refined(background) == 0
    numbers = numbers_on(labels_of_scores(classes), scores.device)
    unsure = torch.where(sure_background, 0, IGNORE)
    return torch.where(sure_class > 0, numbers[sure_class], unsure).byte().cpu().numpy()


def write_labels(
    image_id: str, path: Path, cam_dir: Path, out: Path, data_set: DataSet, foreground: float, background: float
) -> None:
    """The label map of one image, at `path`."""
    image = np.asarray(load_rgb(path))
    cams = load_cam(cam_dir / f"{image_id}.npy", data_set, shape=image.shape[:2])
    with reported_limits("take fewer --crf_workers, or --crf_backend pydensecrf", at=with_size(path)):
        labels = sure_labels(
            image,
            cams,
            foreground=foreground,
            background=background,
            backend=CRFProcess.backend,
            device=CRFProcess.device,
        )
    save_label_map(out / f"{image_id}.png", labels, data_set)


def label_missing(images: Mapping[str, Path], args: argparse.Namespace, processes: Processes) -> None:
    """Make the label maps of `images`, by id, that are missing, damaged or of other labels than the image's CAM dict;
    `args` are labels.py's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    data_set, out = find_data_set(args.data_set), args.ir_label_out_dir

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        made, cams = out / f"{image_id}.png", args.cam_dir / f"{image_id}.npy"
        if has_label_map_of_cams(made, cams, data_set, image_size(path)[::-1], ignore=True):
            return []
        return [Job(image_id, None, (path, args.cam_dir, out, data_set, args.conf_fg_thres, args.conf_bg_thres))]

    make_missing(images, missing, Work(no_net, write_labels), processes, gave="label map")
