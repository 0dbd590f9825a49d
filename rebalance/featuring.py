"""Unsupervised features: the PCA, which files are missing, and what a process with the net does for an image."""

import argparse
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data.images import image_size, load_rgb, with_size
from network.fold import fold_norms
from network.unsupervised import FeatureNet, Stride8, load_feature_net
from rebalance.feature_files import grid_of, load_features, save_features
from rebalance.inputs import hash_of
from rebalance.uss import (
    PCA_IMAGES,
    cells_for_pca,
    evenly_spaced,
    fit_pca,
    load_pca,
    multi_scale_features,
    picture_of,
    save_pca,
)
from tool.artifact import atomic_file
from tool.cli import UserError, pace
from tool.device import autocast, place_for_inference
from tool.image import has_picture
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing
from tool.progress import Bar

LIMITS = "take fewer --n_processes_per_gpu, --amp bf16 or a smaller --backbone"
PCA_FILE = "pca.pt"  # beside the features


def load_net(args: argparse.Namespace) -> FeatureNet:
    """The net that `args`, features.py's, name, on the CPU, yet without PCA. Raises as `load_feature_net`."""
    weights = {"backbone_weights": args.uss_backbone_weights, "head_weights": args.uss_weights}
    net = load_feature_net(args.uss, args.backbone, **weights, width=args.width)
    if args.uss_dim is not None and args.uss_dim > net.dim:
        raise UserError(f"--uss_dim {args.uss_dim}: expected at most {net.dim}, the channels of {args.backbone}")
    return net


def load_on(args: argparse.Namespace, device: torch.device) -> FeatureNet:
    """The net as a process makes features with it."""
    net = load_net(args)
    if args.uss_dim is not None:
        net = FeatureNet(net.backbone, load_pca(args.out_dir / PCA_FILE, **pca_of(net, args))).eval()
    if isinstance(net.backbone, Stride8):
        fold_norms(net)
    return place_for_inference(net, device, args.amp)


def made_with(args: argparse.Namespace) -> dict[str, Any]:
    """What the file of a PCA says of the features that it was fitted to."""
    return {"backbone": args.backbone, "sha256": hash_of(args.uss_backbone_weights)}


def pca_of(net: FeatureNet, args: argparse.Namespace) -> dict[str, Any]:
    """What `load_pca` is to find."""
    return {**made_with(args), "channels": net.dim, "dim": args.uss_dim, "flag": "--out_dir"}


def in_amp(net: FeatureNet, device: torch.device, amp: str) -> Callable[[Tensor], Tensor]:
    """`net` as `--amp` says."""

    def features(images: Tensor) -> Tensor:
        with autocast(device, amp):
            return net(images)

    return features


def fit_missing_pca(
    net: FeatureNet, images: Mapping[str, Path], args: argparse.Namespace, *, device: torch.device
) -> None:
    """Fit the PCA of `net`'s features of `images`, by id, unless it is there. Raises `UserError` as `load_pca`."""
    path = args.out_dir / PCA_FILE
    if PCA_FILE.removesuffix(".pt") in images:
        raise UserError(f"--infer_list: an image is called as the features' {PCA_FILE} is; give it another name")
    if path.exists():
        load_pca(path, **pca_of(net, args))
        return
    started = time.perf_counter()
    place_for_inference(net, device, args.amp)
    ids = sorted(images)
    chosen = [ids[place] for place in evenly_spaced(len(ids), PCA_IMAGES)]

    def samples() -> Iterator[Tensor]:
        for image_id in Bar(chosen, desc="PCA", unit="image"):
            with reported_limits(LIMITS, at=with_size(images[image_id])):
                image = net.normalisation(load_rgb(images[image_id]), device)
                yield cells_for_pca(in_amp(net, device, args.amp), image, patch=net.patch)

    save_pca(path, fit_pca(samples(), args.uss_dim), **made_with(args))
    print(f"PCA of {len(chosen)} images {pace(started, len(chosen))}")


def make_features(image_id: str, path: Path, folder: Path, amp: str) -> None:
    """The features of one image, written. Raises `UserError` where float16 does not hold them."""
    net, device = NetProcess.net, NetProcess.device
    with reported_limits(LIMITS, at=with_size(path)):
        image = net.normalisation(load_rgb(path), device)
        features = multi_scale_features(in_amp(net, device, amp), image, patch=net.patch).half().cpu()
    if not features.isfinite().all():
        raise UserError(f"{path}: its features are not finite in float16; are the weights whole?")
    save_features(folder / f"{image_id}.pt", features)


def make_missing_features(
    images: Mapping[str, Path], args: argparse.Namespace, processes: Processes, *, dim: int, patch: int
) -> None:
    """Make the features of `images`, by id, that are missing, damaged, not finite or of another image's size; `args`
    are features.py's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path, file = images[image_id], args.out_dir / f"{image_id}.pt"
        try:
            features = load_features(file)
            if tuple(features.shape) == (dim, *grid_of(image_size(path), patch)) and features.isfinite().all():
                return []
        except UserError:
            pass
        return [Job(image_id, (path, args.out_dir, args.amp))]

    work = Work(make_features, load=functools.partial(load_on, args), names=("features", "crf"))
    make_missing(images, missing, work, processes, gave="features")


def draw_missing(images: Mapping[str, Path], args: argparse.Namespace) -> None:
    """Draw the features of `images`, by id, where there is no picture, or a damaged one or of another size."""
    missing = [
        image_id
        for image_id, path in images.items()
        if not has_picture(args.pictures / f"{image_id}.png", image_size(path))
    ]
    for image_id in Bar(missing, desc="pictures", unit="image"):
        features = load_features(args.out_dir / f"{image_id}.pt")
        picture = picture_of(features, image_size(images[image_id])[::-1])
        with atomic_file(args.pictures / f"{image_id}.png") as file:
            Image.fromarray(picture).save(file, format="PNG")
    print(f"{len(missing)} pictures drawn: {args.pictures}")
