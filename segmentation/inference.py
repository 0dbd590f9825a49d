"""Stage 3's test: which label maps are missing, and what the network's and the CRF's processes do for them."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.images import image_size, load_rgb, with_size
from data.label_maps import has_label_map
from network.backbone_weights import load_deeplab
from network.fold import fold_norms
from segmentation.crf import refine
from segmentation.net import net_of, normalisation_of
from segmentation.predict import multi_scale_probability
from segmentation.settings import Config
from tool.artifact import atomic_file, save_label_map
from tool.cli import UserError
from tool.crf import resolve_backend
from tool.device import autocast, device_names, place_for_inference
from tool.limits import reported_limits
from tool.per_image import Job, NetProcess, Processes, Work, make_missing
from tool.pickled import load_pickled
from tool.torchrun import own_cores

ADVICE = "take smaller scales (TEST_MULTISCALE), fewer TEST_CRF_WORKERS, or half the precision (TEST_AMP)"


def load_net(config: Config) -> nn.Module:
    net = net_of(config)
    load_deeplab(net, config.TEST_CKPT)
    return net.eval()


def net_without_weights(config: Config) -> nn.Module:
    """For what it says of itself."""
    with torch.device("meta"):
        return net_of(config)


def needs_net(config: Config, images: Mapping[str, Path]) -> bool:
    """Whether the logits of one of `images` are not kept, or damaged."""
    folder = config.TEST_LOGITS
    return folder is None or any(kept_logits(folder / f"{image_id}.npy", config) is None for image_id in images)


def load_on(config: Config, device: torch.device, *, with_weights: bool = True) -> nn.Module:
    """The net as a process predicts with it; with all logits kept, what says how they lie on the image."""
    if not with_weights:
        return net_without_weights(config)
    return place_for_inference(fold_norms(load_net(config)), device, config.TEST_AMP)


def probability_of(path: Path, config: Config) -> Tensor:
    """The net's probabilities of the image at `path`, float32 (L, H, W), on its process's device."""
    net, device = NetProcess.net, NetProcess.device

    def logits(image: Tensor) -> Tensor:
        with autocast(device, config.TEST_AMP):
            return net(image)

    with reported_limits(ADVICE, at=with_size(path)):
        return multi_scale_probability(
            logits,
            np.asarray(load_rgb(path)),
            scales=config.TEST_MULTISCALE,
            flip=config.TEST_FLIP,
            normalisation=normalisation_of(config, net),
            device=device,
            aligned=net.aligned,
        )


def kept_probability(image_id: str, path: Path, config: Config) -> Tensor:
    """As `probability_of`, from the logits of one pass that TEST_LOGITS keeps; they are made where they are missing."""
    net, device = NetProcess.net, NetProcess.device
    image = np.asarray(load_rgb(path))
    file = config.TEST_LOGITS / f"{image_id}.npy"
    with reported_limits(ADVICE, at=with_size(path)), torch.inference_mode():
        logits = kept_logits(file, config)
        if logits is None:
            with autocast(device, config.TEST_AMP):
                logits = net(normalisation_of(config, net)(image, device)[None])[0]
            logits = logits.float().cpu().numpy()
            with atomic_file(file) as written:
                np.save(written, logits)
        scores = torch.from_numpy(logits).to(device)[None]
        scores = F.interpolate(scores, image.shape[:2], mode="bilinear", align_corners=net.aligned)
        return scores[0].softmax(dim=0)


def kept_logits(file: Path, config: Config) -> np.ndarray | None:
    """The logits, float32 (L, h, w), in a file of TEST_LOGITS; None where it is missing, damaged or something else."""
    try:
        logits = load_pickled(file, numbers=True)
    except UserError:
        return None
    is_one = isinstance(logits, np.ndarray) and logits.dtype == np.float32 and logits.ndim == 3 and logits.size
    return logits if is_one and len(logits) == config.MODEL_NUM_CLASSES and np.isfinite(logits).all() else None


def predict(image_id: str, path: Path, folder: Path, config: Config) -> Tensor | None:
    """The net's part of one image: its probabilities for the CRF, or its label map, written."""
    probability = (
        probability_of(path, config) if config.TEST_LOGITS is None else kept_probability(image_id, path, config)
    )
    if config.TEST_CRF:
        return probability
    labels = probability.argmax(dim=0).to(torch.uint8).cpu().numpy()
    save_label_map(folder / f"{image_id}.png", labels, config.data_set)
    return None


def is_done(config: Config, image_id: str, image: Path, folder: Path) -> bool:
    """Whether an image's label map is there, undamaged and of the image's size, and what TEST_LOGITS is to keep."""
    if config.TEST_LOGITS is not None and kept_logits(config.TEST_LOGITS / f"{image_id}.npy", config) is None:
        return False
    return has_label_map(folder / f"{image_id}.png", config.data_set, image_size(image)[::-1], ignore=False)


def predict_missing(config: Config, images: Mapping[str, Path], folder: Path, *, with_weights: bool) -> None:
    """Make the label maps that are missing or damaged: the network in its processes, the CRF in others beside it.

    with_weights: as `needs_net` says.
    """
    print(f"label maps: {folder}")
    devices = device_names(config.GPUS, "GPUS", each=True)
    mean = normalisation_of(config, net_without_weights(config)).mean
    for_crf = config.data_set, config.TEST_CRF_IMAGE, mean

    def missing(image_id: str) -> list[Job]:
        path = images[image_id]
        if is_done(config, image_id, path, folder):
            return []
        return [Job(image_id, (path, folder, config), (path, folder, *for_crf))]

    load = functools.partial(load_on, config, with_weights=with_weights)
    work = Work(predict, refine if config.TEST_CRF else None, load, ("predict", "crf"))
    crf_backend = resolve_backend("auto", torch.device(devices[0]))
    processes = Processes(devices, crf_backend, config.TEST_CRF_WORKERS or own_cores())
    make_missing(images, missing, work, processes, gave="label map", done="predicted")
