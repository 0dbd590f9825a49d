"""Stage 3's test: which label maps are missing, and what the network's and the CRF's processes do for them."""

import functools
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import torch
from torch import nn

from network.fold import fold_norms
from segmentation.data import InputNormalisation
from segmentation.net import net_of
from segmentation.net.weights import load_trained
from segmentation.predict import crf_labels, multi_scale_probability
from segmentation.settings import Config
from tool.artifact import load_label_map, save_label_map
from tool.cli import UserError, cores, pace, raise_problems
from tool.crf import resolve_backend
from tool.crf.process import CRFProcess, crf_devices
from tool.device import device_names, reported_out_of_memory
from tool.pipeline import Pool, queue_of, run_stages
from voc12.images import image_size, load_rgb


class NetworkProcess:
    """What a process of the network's pool holds from its start on."""

    net: nn.Module
    device: torch.device
    config: Config

    @classmethod
    def start(cls, devices: SimpleQueue, config: Config) -> None:
        cls.config = config
        cls.device = torch.device(devices.get())
        cls.net = fold_norms(load_net(config)).to(cls.device)


def load_net(config: Config) -> nn.Module:
    net = net_of(config)
    load_trained(net, config.TEST_CKPT)
    return net.eval()


def image_path(config: Config, image_id: str) -> Path:
    return config.DATA_ROOT / "JPEGImages" / f"{image_id}.jpg"


def predict(image_id: str, folder: Path) -> np.ndarray | None:
    """The network's part of one image: its probabilities for the CRF, float32 (21, H, W), or its label map, written."""
    config = NetworkProcess.config
    path = image_path(config, image_id)
    with reported_out_of_memory(f"{path}; take smaller scales, TEST_MULTISCALE"):
        probability = multi_scale_probability(
            NetworkProcess.net,
            np.asarray(load_rgb(path)),
            scales=config.TEST_MULTISCALE,
            flip=config.TEST_FLIP,
            normalise=InputNormalisation(config.DATA_MEAN, config.DATA_STD),
            device=NetworkProcess.device,
        )
    if config.TEST_CRF:
        return probability
    save_label_map(folder / f"{image_id}.png", probability.argmax(axis=0).astype(np.uint8))
    return None


def refine(image_id: str, probability: np.ndarray, path: Path, folder: Path) -> None:
    """The CRF's part of one image, at `path`: its label map, written."""
    image = np.asarray(load_rgb(path))
    with reported_out_of_memory(f"{path}; the CRF needs some, too: set TEST_CRF=False"):
        labels = crf_labels(image, probability, backend=CRFProcess.backend, device=CRFProcess.device)
    save_label_map(folder / f"{image_id}.png", labels)


def is_done(config: Config, image_id: str, folder: Path) -> bool:
    """Whether an image's label map is there, undamaged and of the image's size."""
    path, shape = folder / f"{image_id}.png", image_size(image_path(config, image_id))[::-1]
    try:
        return path.exists() and load_label_map(path, shape=shape, ignore=False) is not None
    except UserError:
        return False


def predict_missing(config: Config, ids: list[str], folder: Path) -> None:
    """Make the label maps that are missing or damaged: the network in its processes, the CRF in others beside it."""
    missing = [image_id for image_id in ids if not is_done(config, image_id, folder)]
    print(f"{len(ids) - len(missing)} of {len(ids)} label maps are there; {folder}")
    if not missing:
        return
    devices = device_names(config.GPUS, "GPUS")
    start_network = functools.partial(NetworkProcess.start, queue_of(devices), config)
    network = Pool("predict", predict, len(devices), start=start_network)
    backend = resolve_backend("auto", torch.device(devices[0]))
    places = crf_devices(backend, devices, config.TEST_CRF_WORKERS or cores())
    crf = Pool("crf", refine, len(places), start=functools.partial(CRFProcess.start, queue_of(places), backend))
    network.waiting.extend((image_id, folder) for image_id in missing)

    def crf_job(image_id: str, probability: np.ndarray | None) -> tuple | None:
        return None if probability is None else (image_id, probability, image_path(config, image_id), folder)

    started = time.perf_counter()
    problems = run_stages(network, crf, follow_up=crf_job)
    raise_problems("images that gave no label map; the others are done", problems)
    print(f"predicted {len(missing)} images {pace(started, len(missing))}")
