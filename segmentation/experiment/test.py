"""Stage 3: predict label maps with a trained DeepLab, and score them, with the settings of config.py.

    python test.py --set EXP_NAME=mine TEST_CKPT=../../exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
    python test.py --set EXP_NAME=mine TEST_CKPT=... TEST_SPLIT=test      no ground truth: for the VOC server

Runs again from where it stopped: an image is done when its label map is there and whole.
"""

import argparse
import functools
import hashlib
import json
import shlex
import sys
import time
from multiprocessing.queues import SimpleQueue
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # so that `python test.py` finds the packages from any folder
import tool  # noqa: F401  # before torch

# isort: split
import numpy as np
import torch
from torch import nn

from network.fold import fold_norms
from segmentation.data import InputNormalisation, check_label_maps
from segmentation.experiment.config import config_dict
from segmentation.net import net_of
from segmentation.net.weights import load_trained
from segmentation.predict import crf_labels, multi_scale_probability
from segmentation.settings import (
    Config,
    add_config_arguments,
    read_config,
    require_test_paths,
    settings_record,
    test_list,
)
from tool.artifact import atomic_file, load_label_map, save_label_map
from tool.cli import UserError, cores, pace, raise_problems, run_script, script_parser
from tool.crf import resolve_backend
from tool.crf.process import CRFProcess, crf_devices
from tool.device import device_names, reported_out_of_memory
from tool.lists import read_ids
from tool.lock import hold_folder
from tool.pipeline import Pool, queue_of, run_stages
from tool.run import Claim, claim_folders
from voc12.dataset import check_images, image_size, load_rgb
from voc12.score import as_text, count_list, file_pairs, summarise

# What decides a label map, beside the checkpoint.
DECISIVE = ("TEST_MULTISCALE", "TEST_FLIP", "TEST_CRF", "DATA_MEAN", "DATA_STD")
EXAMPLES = """\
  # predict and score the validation list
  python segmentation/experiment/test.py \\
      --set TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth EXP_NAME=mine
  # without the CRF; results of other settings go elsewhere
  python segmentation/experiment/test.py --set EXP_NAME=mine_without_crf TEST_CRF=False \\
      TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
  # the test set, for the VOC server: no ground truth
  python segmentation/experiment/test.py --set EXP_NAME=mine TEST_SPLIT=test \\
      TEST_CKPT=exps/mine/deeplabv2_resnet101_VOCDataset_itr20000_all.pth
"""


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 3: predict with a trained DeepLab and score, as config.py says.", examples=EXAMPLES)
    add_config_arguments(parser.add_argument_group("settings"))
    return parser.parse_args()


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


def open_folder(config: Config) -> Path:
    """The folder of predictions, as the VOC server names it; refused if it holds another checkpoint's or setting's."""
    results = config.EXP_ROOT / config.EXP_NAME / "results"
    folder = results / f"VOC{config.DATA_YEAR}" / "Segmentation" / f"comp6_{config.TEST_SPLIT}_cls"
    settings = {key: value for key, value in settings_record(config).items() if key in DECISIVE}
    settings["TEST_CKPT, sha256"] = hashlib.sha256(config.TEST_CKPT.read_bytes()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"EXP_ROOT {folder}: cannot be created ({error.strerror})") from error
    hold_folder(folder, "EXP_NAME")
    # Not in the folder itself, which is packed for the server as it is.
    record = results / f"{config.TEST_SPLIT}_settings.json"
    claim_folders([Claim(folder, settings, record)], advice=f"take another EXP_NAME, or remove these and {record}")
    return folder


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


def score(config: Config, folder: Path) -> None:
    """Print and keep IoU of every label and mIoU, in per cent, on the split's list."""
    pairs = file_pairs(test_list(config), folder, config.DATA_ROOT / "SegmentationClass", "png")
    started = time.perf_counter()
    summary = summarise(count_list(pairs, "png", num_workers=cores()))
    print(f"scored {len(pairs)} images {pace(started, len(pairs))}")
    print(as_text(summary))
    with atomic_file(config.EXP_ROOT / config.EXP_NAME / "results" / f"{config.TEST_SPLIT}_score.json") as file:
        file.write(json.dumps(summary, indent=1).encode())


def main() -> None:
    args = parse_arguments()
    config = read_config(config_dict, args.set)
    require_test_paths(config)
    device_names(config.GPUS, "GPUS")
    ids = read_ids(test_list(config), "DATA_LISTS")
    if config.TEST_SPLIT == "test":
        check_images(ids, config.DATA_ROOT / "JPEGImages")
    else:
        check_label_maps(
            ids,
            image_root=config.DATA_ROOT / "JPEGImages",
            label_root=config.DATA_ROOT / "SegmentationClass",
            label_key="DATA_ROOT, ground truth",
        )
    load_net(config)  # a wrong checkpoint is reported here and once, not by every process
    folder = open_folder(config)
    predict_missing(config, ids, folder)
    if config.TEST_SPLIT == "test":
        places = {"--results": folder, "--list": test_list(config), "--img_root": config.DATA_ROOT / "JPEGImages"}
        words = [word for flag, path in places.items() for word in (flag, str(path))]
        print(f"for the VOC server, from {ROOT}: {shlex.join(['python', '-m', 'segmentation.submission', *words])}")
    else:
        score(config, folder)


if __name__ == "__main__":
    run_script(main)
