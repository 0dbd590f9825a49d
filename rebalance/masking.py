"""DHR's label maps: from an image to its labels' posteriors, to a mask, and what the processes do of it
(paper/method.md, DHR)."""

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data.descriptions import find_data_set
from data.images import image_size, load_rgb, with_size
from data.label_maps import has_label_map
from data.normalisation import Normalisation
from network.deeplabv3plus import DeepLabV3Plus, build_deeplabv3plus, load_trained
from network.fold import fold_norms
from network.weights import LoadReport
from rebalance.crf import ITERATIONS, seen_by_crf
from rebalance.recipe import SCALES
from tool.artifact import save_label_map
from tool.colour import palette_of
from tool.crf import crf_from_probability
from tool.crf.process import CRFProcess
from tool.dataset import DataSet
from tool.device import autocast, copied_to, place_for_inference
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing
from tool.seed_recipe import MASK_KERNELS

LIMITS = "take fewer --n_processes_per_gpu or --crf_workers, or --amp bf16"


@torch.inference_mode()
def multi_scale_posteriors(
    segment: Callable[[Tensor], Tensor], image: Tensor, scales: Sequence[float] = SCALES
) -> Tensor:
    """The labels' posteriors, float32 (L, H, W) in 0..1: the mean of the softmax at `scales` of the sides and their
    mirrors, on the grid of the first.

    segment: from images (N, 3, h, w) to logits (N, L, ...). image: float (3, H, W), normalised.
    """
    total, size = None, tuple(image.shape[1:])
    for scale in scales:
        scaled = _resized(image[None], tuple(max(1, int(side * scale)) for side in size))
        plain, mirrored = segment(torch.cat([scaled, scaled.flip(-1)])).float().softmax(dim=1)
        both = ((plain + mirrored.flip(-1)) / 2)[None]
        total = both if total is None else total + _resized(both, total.shape[2:])
    return _resized(total / len(scales), size)[0]


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Values (N, C, h, w) on the grid `size`, corners aligned."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=True)


@torch.inference_mode()
def mask_of(
    pixels: np.ndarray, posteriors: Tensor, *, threshold: float, normalisation: Normalisation | None, backend: str
) -> np.ndarray:
    """The label map, uint8 (H, W), of an RGB image, uint8 (H, W, 3), and its posteriors, float32 (L, H, W), on whose
    device the CRF runs. backend: pydensecrf or torch.

    Labels that score above `threshold` somewhere take part, in half precision's steps as released files hold them;
    where there are none, the largest score decides. normalisation: the net's, through which the CRF sees the image;
    None: it sees the image itself.
    """
    kept = (posteriors.flatten(1).amax(dim=1) > threshold).nonzero().flatten()
    if not len(kept):
        return posteriors.argmax(dim=0).to(torch.uint8).cpu().numpy()
    scores = posteriors[kept].half().float()
    seen = pixels if normalisation is None else seen_by_crf(pixels, normalisation)
    image = copied_to(torch.from_numpy(seen), scores.device)
    options = {"kernels": MASK_KERNELS, "iterations": ITERATIONS, "backend": backend}
    return kept[crf_from_probability(image, scores, **options).argmax(dim=0)].to(torch.uint8).cpu().numpy()


def with_released_palette(data_set: DataSet) -> DataSet:
    """`data_set` with the colours of its labels alone, as the released label maps have them."""
    colours, last = data_set.palette, data_set.num_labels - 1
    repeats = bool((colours[last + 1] == colours[last]).all())
    return replace(data_set, palette=palette_of(colours[: last + 1], repeat_last=repeats))


def load_net(args: argparse.Namespace) -> tuple[DeepLabV3Plus, LoadReport]:
    """The trained net that `args`, masks.py's, name, on the CPU. Raises as `load_trained`."""
    data_set = find_data_set(args.data_set)
    counts = {"num_labels": data_set.num_labels, "num_classes": data_set.num_classes}
    net = build_deeplabv3plus(args.backbone, width=args.width, **counts)
    return net.eval(), load_trained(net, args.weights, "--weights")


def load_on(args: argparse.Namespace, device: torch.device) -> DeepLabV3Plus:
    """The net as a process predicts with it."""
    net, _ = load_net(args)
    return place_for_inference(fold_norms(net), device, args.amp)


def posteriors_of(image_id: str, path: Path, amp: str, scales: Sequence[float]) -> Tensor:
    """The net's part of one image: its posteriors, float32 (L, H, W), on its process's device."""
    net, device = NetProcess.net, NetProcess.device

    def segment(images: Tensor) -> Tensor:
        with autocast(device, amp):
            return net.segment(images)

    with reported_limits(LIMITS, at=with_size(path)):
        return multi_scale_posteriors(segment, net.normalisation(load_rgb(path), device), scales)


def save_mask(
    image_id: str,
    path: Path,
    folder: Path,
    data_set: DataSet,
    threshold: float,
    normalisation: Normalisation | None,
    posteriors: Tensor | np.ndarray,
) -> None:
    """The CRF's part of one image: its label map, written."""
    options = {"threshold": threshold, "normalisation": normalisation, "backend": CRFProcess.backend}
    with reported_limits(LIMITS, at=with_size(path)):
        labels = mask_of(np.asarray(load_rgb(path)), torch.as_tensor(posteriors), **options)
    save_label_map(folder / f"{image_id}.png", labels, data_set)


def predict_missing(
    images: Mapping[str, Path], args: argparse.Namespace, processes: Processes, *, normalisation: Normalisation
) -> None:
    """Make the label maps of `images`, by id, that are missing or damaged; `args` are masks.py's, `normalisation` its
    net's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    data_set, folder = with_released_palette(find_data_set(args.data_set)), args.out_dir
    for_mask = folder, data_set, args.threshold, None if "crf_image" in args.sane else normalisation

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        if has_label_map(folder / f"{image_id}.png", data_set, image_size(path)[::-1], ignore=False):
            return []
        return [Job(image_id, (path, args.amp, args.scales), (path, *for_mask))]

    work = Work(posteriors_of, save_mask, functools.partial(load_on, args), ("predict", "crf"))
    make_missing(images, missing, work, processes, gave="label map", done="predicted")
