"""Stage 1's inference, of any method: which files are missing, and the net's part of an image."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

import torch

from data.descriptions import find_data_set
from data.images import image_size, load_rgb, with_size
from method import METHODS
from method.base import NetFlags
from method.learner import Learner
from method.outputs import Outputs
from method.seeds import make_seeds
from method.superpixels import Superpixels
from network.fold import fold_norms
from network.scn import frozen_scn
from network.weights import LoadReport
from tool.artifact import save_cam
from tool.cam import BACKGROUND, multi_scale_cam, two_size_cam
from tool.cli import first_few, raise_problems
from tool.device import place_for_inference
from tool.irn_cam import save_irn_cam
from tool.limits import reported_limits
from tool.msa_cam import save_msa_cam
from tool.per_image import Job, NetProcess, Processes, Work, make_missing
from tool.seed_recipe import SeedRecipe


def load_learner(args: argparse.Namespace) -> tuple[Learner, LoadReport]:
    """The trained learner that `args`, inference.py's, name, on the CPU, and what came of loading its weights.

    Raises `UserError` as `load_weights`, and for a file without a layer that inference needs.
    """
    method = METHODS[args.method]
    learner = method.learner(
        method.configure_inference(args),
        NetFlags(args.backbone, args.width),
        find_data_set(args.data_set),
        device=torch.device("cpu"),
        amp=args.amp,
    )
    report = learner.load(args.weights, background_last=args.background_last)
    missing = [name for name in report.missing if name.split(".")[0] not in learner.net.training_only_layers]
    others = f"; the network does not have the file's {first_few(report.unexpected)}" if report.unexpected else ""
    raise_problems(f"{args.weights}: expected a trained {args.network}, these tensors are missing{others}", missing)
    return learner.eval(), report


def load_on(args: argparse.Namespace, device: torch.device) -> Learner:
    """The learner as a process infers with it."""
    learner, _ = load_learner(args)
    learner.net = place_for_inference(fold_norms(learner.net), device, args.amp)
    if args.scn is not None:
        learner.superpixels = Superpixels(frozen_scn(args.scn, args.amp, device), args.refine_list, args.amp)
    return learner.requires_grad_(False)


def make_cam(image_id: str, classes: list[int], path: Path, recipe: SeedRecipe, outputs: Outputs) -> None:
    """The net's part of one image: the CAM dict, and its other forms."""
    learner, device = NetProcess.net, NetProcess.device
    limits = reported_limits(
        "take smaller --scales, fewer --n_processes_per_gpu or --crf_workers, or --amp bf16", at=with_size(path)
    )
    wanted = [BACKGROUND, *classes] if outputs.msa is not None and learner.has_background_map else classes
    made = multi_scale_cam if outputs.irn is None else two_size_cam
    with limits:
        image = load_rgb(path)
        cams = made(functools.partial(learner.maps, device=device), image, wanted, recipe=recipe, device=device)
    outputs.remove_seeds(image_id)
    cams, small = (cams, {}) if outputs.irn is None else cams
    background, _ = (each.pop(BACKGROUND, None) for each in (cams, small))
    if outputs.irn is not None:
        save_irn_cam(outputs.irn / f"{image_id}.npy", small, cams, outputs.data_set)
    if outputs.msa is not None:
        shape = image.size[::-1]
        save_msa_cam(outputs.msa / f"{image_id}.npy", cams, outputs.data_set, shape=shape, background=background)
    save_cam(outputs.cam_npy / f"{image_id}.npy", cams, outputs.data_set)


def infer_missing(
    images: Mapping[str, Path],
    classes: Mapping[str, list[int]],
    *,
    args: argparse.Namespace,
    recipe: SeedRecipe,
    outputs: Outputs,
    processes: Processes,
) -> None:
    """Make the files of `outputs` that are missing or damaged.

    Args:
        images: by id. classes: of each image. args: inference.py's. recipe: with the flags' values.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        shape = image_size(path)[::-1]
        if not outputs.has_cam(image_id, classes[image_id], shape):
            for_cam = (classes[image_id], path, recipe, outputs)
            return [Job(image_id, for_cam, (True, list(outputs.crf), path, outputs))]
        label_map, settings = outputs.missing_seeds(image_id, classes[image_id], shape)
        if label_map or settings or outputs.lacks_overlay(image_id):
            return [Job(image_id, None, (label_map, settings, path, outputs))]
        return []

    work = Work(make_cam, make_seeds, functools.partial(load_on, args), ("cam", "seed"))
    make_missing(images, missing, work, processes, gave="seeds", done="inferred")
