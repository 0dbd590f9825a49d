"""The superpixels of images, as a trained network sees them: which are missing, and what a process does for each."""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.images import image_size, load_rgb, with_size
from network.scn import SCN, frozen_scn
from network.superpixel import hard_map, to_whole_cells
from superpixel.maps import load_superpixels, save_outlined, save_superpixels
from tool.artifact import load_whole
from tool.device import autocast
from tool.image import has_picture
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing

LIMITS = "take fewer --n_processes_per_gpu, or --amp bf16"


def association_of(net: SCN, image: Tensor, *, amp: str = "off") -> Tensor:
    """The association of one normalised image, float32 (3, H, W), of any size, on the net's device.

    float32 (1, 9, H', W'), of the image resized to the next multiples of 16.
    """
    with autocast(image.device, amp):
        return net(to_whole_cells(image[None]))


def superpixels_of(net: SCN, image: Image.Image, device: torch.device, *, amp: str = "off") -> np.ndarray:
    """The superpixel of each pixel of an RGB image (W, H), int32 (H, W): row x columns + column of its cell.

    Where the sides are no multiples of 16, the map is that of the resized image, and pixels take the nearest of it.
    """
    width, height = image.size
    labels = hard_map(association_of(net, net.normalisation(image, device), amp=amp))
    # Not F.interpolate, which knows no whole numbers.
    rows = torch.arange(height, device=device) * labels.shape[1] // height
    columns = torch.arange(width, device=device) * labels.shape[2] // width
    return labels[0][rows][:, columns].to(torch.int32).cpu().numpy()


def infer(image_id: str, path: Path, out: Path, pictures: Path | None, amp: str) -> None:
    """All of one image, at `path`: its superpixels and, if wanted, their picture, written."""
    image = load_rgb(path)
    with reported_limits(LIMITS, at=with_size(path)):
        superpixels = superpixels_of(NetProcess.net, image, NetProcess.device, amp=amp)
    if pictures is not None:
        save_outlined(pictures / f"{image_id}.png", image, superpixels)
    save_superpixels(out / f"{image_id}.npy", superpixels)


def is_done(image_id: str, out: Path, pictures: Path | None, shape: tuple[int, int]) -> bool:
    """Whether all files of an image are there, whole and of its (height, width)."""
    path, picture = out / f"{image_id}.npy", None if pictures is None else pictures / f"{image_id}.png"
    is_whole = load_whole(load_superpixels, path, shape) is not None
    return is_whole and (picture is None or has_picture(picture, shape[::-1]))


def infer_missing(images: Mapping[str, Path], args: argparse.Namespace, processes: Processes) -> None:
    """Make the superpixels of `images`, by id, that are missing or damaged; `args` are infer.py's.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        if is_done(image_id, args.out, args.png, image_size(path)[::-1]):
            return []
        return [Job(image_id, (path, args.out, args.png, args.amp))]

    work = Work(infer, load=functools.partial(frozen_scn, args.weights, args.amp), names=("superpixels", ""))
    make_missing(images, missing, work, processes, gave="superpixels")
