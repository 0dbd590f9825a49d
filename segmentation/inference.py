"""Stage 3's test: which label maps are missing, and what the network's and the CRF's processes do for them.

As in stage 1's inference, a process on a GPU does an image's network and its CRF, several images at a time.
"""

import functools
import time
from multiprocessing.queues import SimpleQueue
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
from tool.crf.process import CRFProcess
from tool.device import autocast, device_names, images_at_once, on_own_stream, place
from tool.limits import reported_limits
from tool.pipeline import Pool, queue_of, run_stages


class NetworkProcess:
    """What a process of the network's pool holds from its start on."""

    net: nn.Module
    device: torch.device
    config: Config

    @classmethod
    def start(cls, devices: SimpleQueue, config: Config) -> None:
        cls.config = config
        cls.device = torch.device(devices.get())
        torch.set_num_threads(max(torch.get_num_threads() // max(config.GPUS, 1), 1))
        # Without gradients autocast keeps no half precision weights, which other threads' streams would find half done.
        cls.net = place(fold_norms(load_net(config)), cls.device, config.TEST_AMP).requires_grad_(False)
        CRFProcess.share(cls.device)  # in a pool of its own it says otherwise there

    @classmethod
    def logits(cls, image: Tensor) -> Tensor:
        with autocast(cls.device, cls.config.TEST_AMP):
            return cls.net(image)


def load_net(config: Config) -> nn.Module:
    net = net_of(config)
    load_trained(net, config.TEST_CKPT)
    return net.eval()


def image_path(config: Config, image_id: str) -> Path:
    return config.DATA_ROOT / "JPEGImages" / f"{image_id}.jpg"


def probability_of(path: Path) -> Tensor:
    """The network's part of the image at `path`: its probabilities, float32 (L, H, W), on the network's device."""
    config = NetworkProcess.config
    advice = "take smaller scales (TEST_MULTISCALE), fewer TEST_CRF_WORKERS, or half the precision (TEST_AMP)"
    with reported_limits(advice, at=with_size(path)):
        return multi_scale_probability(
            NetworkProcess.logits,
            np.asarray(load_rgb(path)),
            scales=config.TEST_MULTISCALE,
            flip=config.TEST_FLIP,
            normalisation=normalisation_of(config, NetworkProcess.net),
            device=NetworkProcess.device,
        )


def predict(image_id: str, path: Path, folder: Path) -> np.ndarray | None:
    """The network's part of one image: its probabilities for the CRF's process, or its label map, written."""
    with on_own_stream(NetworkProcess.device):
        probability = probability_of(path)
        if NetworkProcess.config.TEST_CRF:
            return probability.cpu().numpy()
        labels = probability.argmax(dim=0).to(torch.uint8).cpu().numpy()
    save_label_map(folder / f"{image_id}.png", labels, NetworkProcess.config.data_set)
    return None


def predict_and_refine(image_id: str, path: Path, folder: Path) -> None:
    """All of one image in the network's process: its probabilities never leave the GPU."""
    with on_own_stream(NetworkProcess.device):
        refine(image_id, path, folder, NetworkProcess.config.data_set, probability_of(path))


def is_done(config: Config, image_id: str, folder: Path) -> bool:
    """Whether an image's label map is there, undamaged and of the image's size."""
    path, shape = folder / f"{image_id}.png", image_size(image_path(config, image_id))[::-1]
    try:
        return path.exists() and load_label_map(path, config.data_set, shape=shape, ignore=False) is not None
    except UserError:
        return False


def predict_missing(config: Config, ids: list[str], folder: Path) -> None:
    """Make the label maps that are missing or damaged: the network in its processes, the CRF in others beside it."""
    missing = [image_id for image_id in ids if not is_done(config, image_id, folder)]
    print(f"{len(ids) - len(missing)} of {len(ids)} label maps are there; {folder}")
    if not missing:
        return
    devices = device_names(config.GPUS, "GPUS")
    together = config.TEST_CRF and devices[0] != "cpu"
    network = Pool(
        "predict",
        predict_and_refine if together else predict,
        len(devices),
        threads=images_at_once(devices[0]),
        start=functools.partial(NetworkProcess.start, queue_of(devices), config),
    )
    network.waiting.extend((image_id, image_path(config, image_id), folder) for image_id in missing)
    started = time.perf_counter()
    if together or not config.TEST_CRF:
        problems = run_stages(network)
    else:
        start_crf = functools.partial(CRFProcess.start, resolve_backend("auto", torch.device("cpu")))
        crf = Pool("crf", refine, config.TEST_CRF_WORKERS or cores(), start=start_crf)

        def crf_job(image_id: str, probability: np.ndarray) -> tuple:
            return image_id, image_path(config, image_id), folder, config.data_set, probability

        problems = run_stages(network, crf, follow_up=crf_job)
    raise_problems("images that gave no label map; the others are done", problems)
    print(f"predicted {len(missing)} images {pace(started, len(missing))}")
