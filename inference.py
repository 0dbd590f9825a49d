"""Stage 1: multi-scale CAMs, seeds and CRF seeds from a trained classifier.

    python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt --img_root VOC2012/JPEGImages

Runs again from where it stopped: an image is done when every file asked of it is there and whole.
"""

import argparse
import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from network import build_network, resolve_network
from network.backbones import BACKBONES
from network.weights import load_weights
from tool.artifact import load_cam, load_crf, load_label_map, save_cam, save_crf, save_label_map
from tool.cam import multi_scale_cam, seed_labels
from tool.cli import UserError, positive, raise_problems, require_folder, run_script
from tool.crf import crf_seed
from tool.device import resolve_device
from tool.pipeline import Stage, run_stages
from tool.run import claim_folder
from voc12.dataset import check_images, load_rgb
from voc12.labels import labels_of, load_labels
from voc12.lists import read_ids
from voc12.transforms import normalise

EPILOG = """examples:
  seeds and CRF seeds      inference.py --weights hsc.pth --infer_list voc12/train.txt --img_root VOC2012/JPEGImages
  four GPUs, two each      ... --n_gpus 4 --n_processes_per_gpu 2
  CAMs alone               ... --crf_t none
  the plain classifier     ... --network resnet38_cls --weights cls.pth
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Stage 1: CAMs, seeds and CRF seeds.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--infer_list", default="voc12/train.txt", help="ids to infer (%(default)s)")
    data.add_argument("--img_root", "--data_root", required=True, help="folder of <id>.jpg (VOC2012/JPEGImages)")
    data.add_argument("--labels", default="voc12/cls_labels.npy", help="image labels (%(default)s)")

    net = parser.add_argument_group("network")
    net.add_argument("--weights", required=True, help=".pth or last.ckpt that train_voc.py wrote, or the released one")
    net.add_argument("--network", default="resnet38_hsc", help="or resnet38_cls, or a released path (%(default)s)")
    net.add_argument("--backbone", choices=BACKBONES, default="resnet38d", help="(%(default)s)")
    net.add_argument("--width", type=float, default=1.0, help="channel multiplier of resnet38d (%(default)s)")

    seeds = parser.add_argument_group("seeds")
    seeds.add_argument("--scales", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.0], help="of the image's sides")
    seeds.add_argument("--thr", type=float, default=0.22, help="background's score in label maps, 0..1 (%(default)s)")
    seeds.add_argument("--crf_t", nargs="+", default=["8"], metavar="T", help="CRF iterations; none: no CRF (8)")
    seeds.add_argument("--crf_alpha", nargs="+", type=float, default=[7.0], metavar="A", help="background powers (7)")
    seeds.add_argument("--work_dir", default="./exps", help="CRF seeds go to <work_dir>/crf (%(default)s)")
    seeds.add_argument("--cam_npy", help="folder of CAM dicts (<work_dir>/cam_npy)")
    seeds.add_argument("--cam_png", help="folder of label maps (<work_dir>/cam_png)")

    run = parser.add_argument_group("run")
    run.add_argument("--device", help="cpu or cuda (default: cuda where there is a GPU)")
    run.add_argument("--n_gpus", type=int, help="GPUs to use; 0: the CPU (default: 1 where there is one)")
    run.add_argument("--n_processes_per_gpu", type=positive, nargs="+", default=[1], help="one for all, or one each")
    run.add_argument("--crf_workers", type=positive, default=os.cpu_count(), help="CRF processes (the cores there are)")
    return parser.parse_args()


@dataclass(frozen=True)
class Outputs:
    """Where an image's files go, and what settings they have."""

    cam_npy: Path
    cam_png: Path
    crf: dict[tuple[int, float], Path]  # (iterations, alpha) -> folder
    threshold: float

    def has_cam(self, image_id: str) -> bool:
        """Whether both of the CAM's files are there and whole."""
        npy, png = self.cam_npy / f"{image_id}.npy", self.cam_png / f"{image_id}.png"
        return is_whole(load_cam, npy) and is_whole(load_label_map, png)

    def missing_crf(self, image_id: str) -> list[tuple[int, float]]:
        """The CRF settings of which a file is missing or damaged."""
        return [
            setting
            for setting, folder in self.crf.items()
            if not is_whole(load_crf, folder / f"{image_id}.npy")
            or not is_whole(load_label_map, folder / f"{image_id}.png")
        ]


def is_whole(load: Callable[[Path], Any], path: Path) -> bool:
    """Whether `path` exists and `load` takes it; a damaged file is made anew."""
    try:
        return path.exists() and load(path) is not None
    except UserError:
        return False


class NetworkProcess:
    """What a process of the network's pool holds from its start on."""

    net: nn.Module
    device: torch.device

    @classmethod
    def start(cls, devices: SimpleQueue, args: argparse.Namespace) -> None:
        cls.device = torch.device(devices.get())
        torch.set_num_threads(max(torch.get_num_threads() // args.processes, 1))
        cls.net = load_net(args).to(cls.device)


def load_net(args: argparse.Namespace) -> nn.Module:
    net = build_network(args.network, backbone=args.backbone, width=args.width)
    report = load_weights(net, args.weights)
    raise_problems(f"{args.weights}: expected a trained {args.network}, these tensors are missing", report.missing)
    return net.eval()


def make_cam(image_id: str, classes: list[int], image_root: Path, scales: list[float], outputs: Outputs) -> None:
    """The network's part of one image: the CAM dict and its label map."""
    cams = multi_scale_cam(
        NetworkProcess.net.foreground_cam,
        load_rgb(image_root / f"{image_id}.jpg"),
        classes,
        scales=scales,
        normalise=normalise,
        device=NetworkProcess.device,
    )
    save_label_map(outputs.cam_png / f"{image_id}.png", seed_labels(cams, threshold=outputs.threshold))
    save_cam(outputs.cam_npy / f"{image_id}.npy", cams)


def make_crf(image_id: str, settings: list[tuple[int, float]], image_root: Path, outputs: Outputs) -> None:
    """The CRF's part of one image, from its CAM dict: posteriors and label map for each (iterations, alpha)."""
    cams = load_cam(outputs.cam_npy / f"{image_id}.npy")
    image = np.asarray(load_rgb(image_root / f"{image_id}.jpg"))
    for iterations, alpha in settings:
        posteriors = crf_seed(image, cams, alpha=alpha, iterations=iterations)
        folder = outputs.crf[iterations, alpha]
        labels = np.array(list(posteriors), np.uint8)[np.stack(list(posteriors.values())).argmax(0)]
        save_label_map(folder / f"{image_id}.png", labels)
        save_crf(folder / f"{image_id}.npy", posteriors)


def choose_devices(args: argparse.Namespace) -> list[str]:
    """One device name for each network process."""
    device = resolve_device(args.device)
    n_gpus = args.n_gpus if args.n_gpus is not None else int(device.type == "cuda")
    there = torch.cuda.device_count()
    if not 0 <= n_gpus <= there:
        raise UserError(f"--n_gpus {n_gpus}: this machine has {there} GPUs; take 0 (the CPU) to {there}")
    if len(args.n_processes_per_gpu) not in (1, n_gpus):
        raise UserError(
            f"--n_processes_per_gpu {' '.join(map(str, args.n_processes_per_gpu))}: expected one number, or one for"
            f" each of {n_gpus} GPUs"
        )
    if n_gpus == 0 or device.type == "cpu":
        return ["cpu"] * args.n_processes_per_gpu[0]
    counts = args.n_processes_per_gpu * (n_gpus if len(args.n_processes_per_gpu) == 1 else 1)
    return [f"cuda:{gpu}" for gpu, count in enumerate(counts) for _ in range(count)]


def crf_settings(args: argparse.Namespace) -> list[tuple[int, float]]:
    """Every (iterations, alpha) asked for."""
    if args.crf_t == ["none"]:
        return []
    if not all(text.isdigit() and int(text) > 0 for text in args.crf_t):
        raise UserError(f"--crf_t {' '.join(args.crf_t)}: expected numbers of iterations, or none")
    return [(int(iterations), alpha) for iterations in args.crf_t for alpha in args.crf_alpha]


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong; put the network's registry name in place."""
    args.network = resolve_network(args.network)
    if not 0 <= args.thr <= 1:
        raise UserError(f"--thr {args.thr}: expected a background score from 0 to 1")
    if not all(0 < scale <= 8 for scale in args.scales):
        raise UserError(f"--scales {' '.join(map(str, args.scales))}: expected factors above 0, at most 8")
    if not all(0 < alpha < float("inf") for alpha in args.crf_alpha):
        raise UserError(f"--crf_alpha {' '.join(map(str, args.crf_alpha))}: expected positive exponents")


def open_outputs(args: argparse.Namespace) -> Outputs:
    """Create the folders; refuse those that hold another network's or other settings' files."""
    work_dir = Path(args.work_dir)
    outputs = Outputs(
        cam_npy=Path(args.cam_npy or work_dir / "cam_npy"),
        cam_png=Path(args.cam_png or work_dir / "cam_png"),
        crf={(t, alpha): work_dir / "crf" / f"crf_{t}_{alpha:g}" for t, alpha in crf_settings(args)},
        threshold=args.thr,
    )
    settings = {name: getattr(args, name) for name in ("network", "backbone", "width", "scales", "thr")}
    settings["weights_sha256"] = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()
    try:
        for folder in (outputs.cam_npy, outputs.cam_png, *outputs.crf.values()):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--work_dir {work_dir}: {error.filename} cannot be created ({error.strerror})") from error
    # Beside the CAMs, since all the rest is made from them.
    refusal = f"{outputs.cam_npy} holds CAMs made with other settings; take another --work_dir"
    claim_folder(outputs.cam_npy / "settings.json", settings, refusal=refusal)
    return outputs


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    devices = choose_devices(args)
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    ids = read_ids(args.infer_list, "--infer_list")
    labels = labels_of(ids, load_labels(args.labels), source=f"--labels {args.labels}")
    check_images(ids, image_root)
    load_net(args)  # a wrong checkpoint is reported here and once, not by every process
    outputs = open_outputs(args)

    args.processes = len(devices)
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    for device in devices:
        queue.put(device)
    with (
        ProcessPoolExecutor(len(devices), context, NetworkProcess.start, (queue, args)) as network_pool,
        ProcessPoolExecutor(args.crf_workers, context, torch.set_num_threads, (1,)) as crf_pool,
    ):
        network = Stage("cam", network_pool, len(devices), make_cam)
        crf = Stage("crf", crf_pool, args.crf_workers, make_crf)

        def crf_job(image_id: str, _: None = None) -> tuple | None:
            missing = outputs.missing_crf(image_id)
            return (image_id, missing, image_root, outputs) if missing else None

        for image_id in tqdm(ids, desc="what is there", delay=1, disable=None):
            if not outputs.has_cam(image_id):
                classes = np.flatnonzero(labels[image_id]).tolist()
                network.waiting.append((image_id, classes, image_root, args.scales, outputs))
            elif (job := crf_job(image_id)) is not None:
                crf.waiting.append(job)
        started = time.perf_counter()
        made = len(network.waiting)
        problems = run_stages(network, crf, follow_up=crf_job)
    raise_problems("images that gave no seeds; the others are done", problems)
    seconds = time.perf_counter() - started
    print(f"{made} of {len(ids)} images inferred in {seconds:.1f} s ({made / seconds:.2f} images/s)")
    for folder in (outputs.cam_npy, outputs.cam_png, *outputs.crf.values()):
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
