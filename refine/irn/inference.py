"""IRN's inference: which files of an image are missing, and what a process with the net does for them."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from data.descriptions import find_data_set
from data.images import image_size, load_rgb, with_size
from network.fold import fold_norms
from network.irn import IRNet, load_trained
from network.weights import LoadReport
from refine.irn.instances import instances_of
from refine.irn.walked import WalkRecipe, edge_logits, label_map, scores_of, walked
from refine.stale import has_label_map_of_cams, is_of_cams
from tool.artifact import load_whole, save_label_map
from tool.cli import UserError
from tool.dataset import DataSet
from tool.device import copied_to, place_for_inference
from tool.instances import Instances, load_instances, save_instances
from tool.irn_cam import load_quarter_cam, quarter
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing

LIMITS = "take fewer --n_processes_per_gpu, or --amp bf16"


def load_net(args: argparse.Namespace) -> tuple[IRNet, LoadReport]:
    """The trained net that `args`, infer.py's, name, on the CPU. Raises as `load_trained`."""
    net = IRNet(args.backbone, width=args.width, displacement=args.ins_seg_out_dir is not None)
    return net.eval(), load_trained(net, args.weights)


def load_on(args: argparse.Namespace, device: torch.device) -> IRNet:
    """The net as a process infers with it."""
    net, _ = load_net(args)
    return place_for_inference(fold_norms(net), device, args.amp)


def infer(
    image_id: str,
    path: Path,
    cam_dir: Path,
    data_set: DataSet,
    semantic: tuple[Path, WalkRecipe] | None,
    instance: tuple[Path, WalkRecipe] | None,
    amp: str,
    frame: int,
) -> None:
    """The files of one image, at `path`: its label map and its instances, each in its folder, if that is asked for."""
    image = load_rgb(path)
    shape = image.size[::-1]
    classes, maps = load_quarter_cam(cam_dir / f"{image_id}.npy", data_set)
    if not len(classes):
        if semantic is not None:
            save_label_map(semantic[0] / f"{image_id}.png", np.zeros(shape, np.uint8), data_set)
        if instance is not None:
            save_instances(instance[0] / f"{image_id}.npy", Instances.none(shape))
        return
    if maps.shape[1:] != quarter(shape):
        expected, found = (" x ".join(map(str, size)) for size in (quarter(shape), maps.shape[1:]))
        raise UserError(
            f"{cam_dir / f'{image_id}.npy'}: expected the CAMs of {path}, {expected} (height x width) at a quarter of"
            f" its size, found {found}"
        )
    net, device = NetProcess.net, NetProcess.device
    with reported_limits(LIMITS, at=with_size(path)):
        cams = copied_to(torch.from_numpy(maps), device)
        logits, displacement = edge_logits(net, net.normalisation(image, device), amp=amp, frame=frame)
        if semantic is not None:
            folder, recipe = semantic
            labels = label_map(scores_of(walked(cams, logits, recipe), shape), classes, recipe.background)
        if instance is not None:
            found = instances_of(cams, classes, logits, displacement, shape=shape, recipe=instance[1])
    if semantic is not None:
        save_label_map(folder / f"{image_id}.png", labels, data_set)
    if instance is not None:
        save_instances(instance[0] / f"{image_id}.npy", found)


def has_instances(path: Path, cams: Path, data_set: DataSet, shape: tuple[int, int]) -> bool:
    """Whether an image's instances are there, whole, of its (height, width) and of its CAM dict `cams`."""
    found = load_whole(load_instances, path, data_set, shape=shape)
    return found is not None and is_of_cams(path, map(data_set.label_of, found.classes), cams, data_set)


def infer_missing(images: Mapping[str, Path], args: argparse.Namespace, processes: Processes) -> None:
    """Make the files of `images`, by id, that are missing, damaged or of other labels than the image's CAM dict; `args`
    are infer.py's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    data_set = find_data_set(args.data_set)
    walk = {"beta": args.beta, "exp_times": args.exp_times}
    semantic, instance = (
        None if folder is None else (folder, WalkRecipe(**walk, background=background))
        for folder, background in (
            (args.sem_seg_out_dir, args.sem_seg_bg_thres),
            (args.ins_seg_out_dir, args.ins_seg_bg_thres),
        )
    )

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        shape = image_size(path)[::-1]
        left, cams = [semantic, instance], args.cam_dir / f"{image_id}.npy"
        if semantic and has_label_map_of_cams(semantic[0] / f"{image_id}.png", cams, data_set, shape, ignore=False):
            left[0] = None
        if instance and has_instances(instance[0] / f"{image_id}.npy", cams, data_set, shape):
            left[1] = None
        return [Job(image_id, (path, args.cam_dir, data_set, *left, args.amp, args.crop_size))] if any(left) else []

    work = Work(infer, load=functools.partial(load_on, args), names=("walk", "crf"))
    make_missing(images, missing, work, processes, gave="files", done="walked")
