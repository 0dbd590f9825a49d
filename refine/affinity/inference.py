"""AffinityNet's inference: which label maps are missing, and what the net's and the CRF's processes do for them."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.descriptions import find_data_set
from data.images import image_size, load_rgb, with_size
from data.normalisation import Normalisation
from network.affinity import AffNet, build_affinity_net, load_trained
from network.fold import fold_norms
from network.weights import LoadReport
from refine.affinity.walked import WalkRecipe, label_map, sharpened, walked_scores
from refine.stale import has_label_map_of_cams
from tool.artifact import load_cam, save_label_map
from tool.crf.process import CRFProcess
from tool.dataset import DataSet
from tool.device import place_for_inference
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing

LIMITS = "take fewer --n_processes_per_gpu or --crf_workers, or --amp bf16"


def load_net(args: argparse.Namespace) -> tuple[AffNet, LoadReport]:
    """The trained net that `args`, infer.py's, name, on the CPU. Raises as `load_trained`."""
    net = build_affinity_net(backbone=args.backbone, width=args.width)
    return net.eval(), load_trained(net, args.weights)


def load_on(args: argparse.Namespace, device: torch.device) -> AffNet:
    """The net as a process infers with it."""
    net, _ = load_net(args)
    return place_for_inference(fold_norms(net), device, args.amp)


def walk(
    image_id: str, path: Path, cam_dir: Path, out: Path, data_set: DataSet, recipe: WalkRecipe, amp: str, crf: bool
) -> Tensor | None:
    """The net's part of one image, at `path`: its walked scores for the CRF, or its label map, written."""
    image = load_rgb(path)
    shape = image.size[::-1]
    cams = load_cam(cam_dir / f"{image_id}.npy", data_set, shape=shape)
    if not cams:
        save_label_map(out / f"{image_id}.png", np.zeros(shape, np.uint8), data_set)
        return None
    with reported_limits(LIMITS, at=with_size(path)):
        scores = walked_scores(NetProcess.net, image, cams, recipe=recipe, device=NetProcess.device, amp=amp)
    if crf:
        return scores
    save_label_map(out / f"{image_id}.png", label_map(scores, sorted(cams), shape), data_set)
    return None


def sharpen(
    image_id: str,
    path: Path,
    cam_dir: Path,
    out: Path,
    data_set: DataSet,
    normalisation: Normalisation,
    scores: Tensor | np.ndarray | None = None,
) -> None:
    """The CRF's part of one image: write its label map. Without `scores` it has no class, and its map is there."""
    if scores is None:
        return
    image = load_rgb(path)
    classes = list(load_cam(cam_dir / f"{image_id}.npy", data_set))
    with reported_limits(LIMITS, at=with_size(path)):
        posterior = sharpened(
            image,
            torch.as_tensor(scores),
            classes,
            num_labels=data_set.num_labels,
            normalisation=normalisation,
            backend=CRFProcess.backend,
        )
    save_label_map(out / f"{image_id}.png", label_map(posterior, classes, image.size[::-1]), data_set)


def infer_missing(
    images: Mapping[str, Path], args: argparse.Namespace, processes: Processes, *, normalisation: Normalisation
) -> None:
    """Make the label maps of `images`, by id, that are missing, damaged or of other labels than the image's CAM dict;
    `args` are infer.py's, `normalisation` its net's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    data_set = find_data_set(args.data_set)
    recipe = WalkRecipe(
        beta=args.beta,
        logt=args.logt,
        background=args.bg,
        alpha=args.alpha,
        everywhere="border_pairs" in args.sane,
        background_beside="padded_background" in args.sane,
    )
    places = args.cam_dir, args.out_rw, data_set

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        made, cams = args.out_rw / f"{image_id}.png", args.cam_dir / f"{image_id}.npy"
        if has_label_map_of_cams(made, cams, data_set, image_size(path)[::-1], ignore=False):
            return []
        return [Job(image_id, (path, *places, recipe, args.amp, args.crf), (path, *places, normalisation))]

    work = Work(walk, sharpen if args.crf else None, functools.partial(load_on, args), ("walk", "crf"))
    make_missing(images, missing, work, processes, gave="label map", done="walked")
