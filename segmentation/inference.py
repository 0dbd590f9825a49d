"""Stage 3's test: which label maps are missing, and what the network's and the CRF's processes do for them."""

import functools
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.images import image_size, load_rgb, with_size
from network.backbone_weights import load_trained
from network.fold import fold_norms
from segmentation.crf import refine
from segmentation.net import net_of, normalisation_of
from segmentation.predict import multi_scale_probability
from segmentation.settings import Config
from tool.artifact import load_label_map, save_label_map
from tool.cli import UserError, cores, pace, raise_problems
from tool.crf import resolve_backend
from tool.device import autocast, device_names, place
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Work, process_images


def load_net(config: Config) -> nn.Module:
    net = net_of(config)
    load_trained(net, config.TEST_CKPT)
    return net.eval()


def load_on(config: Config, device: torch.device) -> nn.Module:
    """The net as a process predicts with it."""
    return place(fold_norms(load_net(config)), device, config.TEST_AMP).requires_grad_(False)


def probability_of(path: Path, config: Config) -> Tensor:
    """The net's probabilities of the image at `path`, float32 (L, H, W), on its process's device."""
    net, device = NetProcess.net, NetProcess.device

    def logits(image: Tensor) -> Tensor:
        with autocast(device, config.TEST_AMP):
            return net(image)

    advice = "take smaller scales (TEST_MULTISCALE), fewer TEST_CRF_WORKERS, or half the precision (TEST_AMP)"
    with reported_limits(advice, at=with_size(path)):
        return multi_scale_probability(
            logits,
            np.asarray(load_rgb(path)),
            scales=config.TEST_MULTISCALE,
            flip=config.TEST_FLIP,
            normalisation=normalisation_of(config, net),
            device=device,
        )


def predict(image_id: str, path: Path, folder: Path, config: Config) -> Tensor | None:
    """The net's part of one image: its probabilities for the CRF, or its label map, written."""
    probability = probability_of(path, config)
    if config.TEST_CRF:
        return probability
    labels = probability.argmax(dim=0).to(torch.uint8).cpu().numpy()
    save_label_map(folder / f"{image_id}.png", labels, config.data_set)
    return None


def is_done(config: Config, image_id: str, image: Path, folder: Path) -> bool:
    """Whether an image's label map is there, undamaged and of the image's size."""
    path, shape = folder / f"{image_id}.png", image_size(image)[::-1]
    try:
        return path.exists() and load_label_map(path, config.data_set, shape=shape, ignore=False) is not None
    except UserError:
        return False


def predict_missing(config: Config, images: Mapping[str, Path], folder: Path) -> None:
    """Make the label maps that are missing or damaged: the network in its processes, the CRF in others beside it."""
    missing = {image_id: path for image_id, path in images.items() if not is_done(config, image_id, path, folder)}
    print(f"{len(images) - len(missing)} of {len(images)} label maps are there; {folder}")
    if not missing:
        return
    devices = device_names(config.GPUS, "GPUS")
    started = time.perf_counter()
    problems = process_images(
        [Job(image_id, (path, folder, config), (path, folder, config.data_set)) for image_id, path in missing.items()],
        Work(predict, refine if config.TEST_CRF else None),
        names=("predict", "crf"),
        devices=devices,
        load=functools.partial(load_on, config),
        crf_backend=resolve_backend("auto", torch.device(devices[0])),
        crf_workers=config.TEST_CRF_WORKERS or cores(),
    )
    raise_problems("images that gave no label map; the others are done", problems)
    print(f"predicted {len(missing)} images {pace(started, len(missing))}")
