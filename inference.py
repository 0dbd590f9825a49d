"""Stage 1: multi-scale CAMs, seeds and CRF seeds from a trained classifier.

    python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt --img_root VOC2012/JPEGImages

Runs again from where it stopped: an image is done when every file asked of it is there, whole, and of its labels and
size. Each folder's settings.json says what its files were made with.
"""

import tool  # noqa: F401  # before torch

# isort: split
import argparse
import functools
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from network import build_network, resolve_network
from network.backbones import BACKBONES
from network.fold import fold_norms
from network.weights import load_weights
from tool.artifact import load_cam, load_crf, load_label_map, save_cam, save_crf, save_label_map
from tool.cam import check_scales, multi_scale_cam, seed_labels
from tool.cli import (
    UserError,
    add_switch,
    pace,
    positive,
    raise_problems,
    require_folder,
    run_script,
    script_parser,
)
from tool.crf import BACKENDS, crf_seed, resolve_backend
from tool.crf.process import CRFProcess, crf_devices
from tool.device import AMP_TYPES, autocast, place, process_devices, reported_out_of_memory
from tool.distributed import join_processes, leave_processes, own_cores, rank, wait_for_all, world_size
from tool.image import load_image
from tool.lists import read_ids
from tool.lock import hold_folder
from tool.pipeline import Pool, queue_of, run_stages
from tool.plot import save_overlay
from tool.run import Claim, claim_folders
from voc12.dataset import check_images, image_size, load_rgb, run_checks
from voc12.labels import labels_of, load_labels
from voc12.transforms import normalise

EXAMPLES = """\
  # seeds and CRF seeds
  python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train.txt \\
      --img_root VOC2012/JPEGImages
  # CAMs and seeds without a CRF
  python inference.py --weights exps/hsc/hsc.pth --img_root VOC2012/JPEGImages --crf_t none
  # the plain classifier, into a folder of its own, with pictures to look at
  python inference.py --weights exps/cls/cls.pth --network resnet38_cls \\
      --img_root VOC2012/JPEGImages --work_dir exps/cls --overlay
  # four GPUs, two processes each
  python inference.py --weights exps/hsc/hsc.pth --infer_list voc12/train_aug.txt \\
      --img_root VOC2012/JPEGImages --n_gpus 4 --n_processes_per_gpu 2
  # four machines, each its part of the list
  torchrun --nnodes 4 --nproc_per_node 1 --rdzv_backend c10d --rdzv_endpoint HOST:29500 \\
      inference.py --weights exps/hsc/hsc.pth --img_root VOC2012/JPEGImages
"""
MAX_CRF_ITERATIONS = 1000


def parse_arguments() -> argparse.Namespace:
    parser = script_parser("Stage 1: CAMs, seeds and CRF seeds.", examples=EXAMPLES)
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
    seeds.add_argument("--crf_backend", choices=BACKENDS, default="auto", help="auto: torch on a GPU, else pydensecrf")
    seeds.add_argument("--work_dir", default="./exps", help="CRF seeds go to <work_dir>/crf (%(default)s)")
    add_switch(seeds, "--overlay", default=False, help="pictures of it all in <work_dir>/overlay, to look at (False)")
    seeds.add_argument("--cam_npy", help="folder of CAM dicts (<work_dir>/cam_npy)")
    seeds.add_argument("--cam_png", help="folder of label maps (<work_dir>/cam_png)")

    run = parser.add_argument_group("run")
    run.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda where there is a GPU)")
    run.add_argument("--n_gpus", type=int, help="GPUs to use; 0: the CPU (default: 1 where there is one)")
    run.add_argument("--n_processes_per_gpu", type=positive, nargs="+", default=[1], help="one for all, or one each")
    run.add_argument(
        "--crf_workers", type=positive, default=own_cores(),
        help="CRF processes on a CPU (its cores: %(default)s)",
    )  # fmt: skip
    run.add_argument("--amp", choices=AMP_TYPES, default="off", help="the network in half the precision (%(default)s)")
    return parser.parse_args()


@dataclass(frozen=True)
class Outputs:
    """Where an image's files go, and what settings they have. The seeds, label map and CRF, follow from the CAMs."""

    cam_npy: Path
    cam_png: Path
    crf: dict[tuple[int, float], Path]  # (iterations, alpha) -> folder
    overlay: Path | None
    threshold: float

    @property
    def folders(self) -> list[Path]:
        pictures = [] if self.overlay is None else [self.overlay]
        return [self.cam_npy, self.cam_png, *self.crf.values(), *pictures]

    def lacks_overlay(self, image_id: str) -> bool:
        def load(path: Path, shape: None) -> Image.Image:
            return load_image(path, "RGB")

        return self.overlay is not None and load_whole(load, self.overlay / f"{image_id}.png", None) is None

    def has_cam(self, image_id: str, classes: list[int], shape: tuple[int, int]) -> bool:
        """Whether the image's CAM dict is there, whole, of its classes and its (height, width)."""
        cams = load_whole(load_cam, self.cam_npy / f"{image_id}.npy", shape)
        return cams is not None and list(cams) == classes

    def missing_seeds(
        self, image_id: str, classes: list[int], shape: tuple[int, int]
    ) -> tuple[bool, list[tuple[int, float]]]:
        """Whether the label map is missing, damaged or of another image, and the CRF settings of which a file is."""
        labels = [0, *(index + 1 for index in classes)]

        def is_missing(folder: Path) -> bool:
            return load_whole(load_label_map, folder / f"{image_id}.png", shape) is None

        return is_missing(self.cam_png), [
            setting
            for setting, folder in self.crf.items()
            if is_missing(folder) or list(load_whole(load_crf, folder / f"{image_id}.npy", shape) or ()) != labels
        ]

    def remove_seeds(self, image_id: str) -> None:
        """Remove what was made from an older CAM, so that nobody takes it for the new one's."""
        seeds = [self.cam_png / f"{image_id}.png"]
        seeds += [] if self.overlay is None else [self.overlay / f"{image_id}.png"]
        seeds += [folder / f"{image_id}.{suffix}" for folder in self.crf.values() for suffix in ("npy", "png")]
        for path in seeds:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise UserError(f"{path}: cannot be removed and made anew ({error.strerror})") from error


def load_whole(load: Callable[..., Any], path: Path, shape: tuple[int, int]) -> Any:
    """What `load` reads; None where no file is, or a damaged one or one of another (height, width): it is made anew."""
    try:
        return load(path, shape=shape) if path.exists() else None
    except UserError:
        return None


class NetworkProcess:
    """What a process of the network's pool holds from its start on."""

    net: nn.Module
    device: torch.device
    amp: str

    @classmethod
    def start(cls, devices: SimpleQueue, args: argparse.Namespace) -> None:
        cls.device, cls.amp = torch.device(devices.get()), args.amp
        torch.set_num_threads(max(torch.get_num_threads() // args.processes, 1))
        cls.net = place(fold_norms(load_net(args)), cls.device, cls.amp)

    @classmethod
    def foreground_cam(cls, image: torch.Tensor) -> torch.Tensor:
        with autocast(cls.device, cls.amp):
            return cls.net.foreground_cam(image)


def load_net(args: argparse.Namespace) -> nn.Module:
    net = build_network(args.network, backbone=args.backbone, width=args.width)
    report = load_weights(net, args.weights)
    missing = [name for name in report.missing if name.split(".")[0] not in net.training_only_layers]
    raise_problems(f"{args.weights}: expected a trained {args.network}, these tensors are missing", missing)
    return net.eval()


def make_cam(image_id: str, classes: list[int], image_root: Path, scales: list[float], outputs: Outputs) -> None:
    """The network's part of one image: the CAM dict."""
    path = image_root / f"{image_id}.jpg"
    with reported_out_of_memory(f"{path}; take fewer --n_processes_per_gpu, smaller --scales, or --amp"):
        cams = multi_scale_cam(
            NetworkProcess.foreground_cam,
            load_rgb(path),
            classes,
            scales=scales,
            normalise=normalise,
            device=NetworkProcess.device,
        )
    outputs.remove_seeds(image_id)
    save_cam(outputs.cam_npy / f"{image_id}.npy", cams)


def make_seeds(
    image_id: str, label_map: bool, settings: list[tuple[int, float]], image_root: Path, outputs: Outputs
) -> None:
    """What follows from the CAM dict of one image: its label map, the CRF's files for each (iterations, alpha), and a
    picture of them all."""
    cams = load_cam(outputs.cam_npy / f"{image_id}.npy")
    if label_map:
        save_label_map(outputs.cam_png / f"{image_id}.png", seed_labels(cams, threshold=outputs.threshold))
    path = image_root / f"{image_id}.jpg"
    image = np.asarray(load_rgb(path))
    for iterations, alpha in settings:
        with reported_out_of_memory(f"{path}; take fewer --n_processes_per_gpu, or --crf_backend pydensecrf"):
            posteriors = crf_seed(
                image,
                cams,
                alpha=alpha,
                iterations=iterations,
                backend=CRFProcess.backend,
                device=CRFProcess.device,
            )
        folder = outputs.crf[iterations, alpha]
        labels = np.array(list(posteriors), np.uint8)[np.stack(list(posteriors.values())).argmax(0)]
        save_label_map(folder / f"{image_id}.png", labels)
        save_crf(folder / f"{image_id}.npy", posteriors)
    if outputs.overlay is not None:
        maps = {"seed": outputs.cam_png, **{f"CRF {t}, {alpha:g}": path for (t, alpha), path in outputs.crf.items()}}
        label_maps = {title: load_label_map(path / f"{image_id}.png") for title, path in maps.items()}
        save_overlay(outputs.overlay / f"{image_id}.png", image, cams, label_maps)


def crf_settings(args: argparse.Namespace) -> list[tuple[int, float]]:
    """Every (iterations, alpha) asked for."""
    if args.crf_t == ["none"]:
        return []
    if not all(re.fullmatch("[0-9]{1,4}", text) and 0 < int(text) <= MAX_CRF_ITERATIONS for text in args.crf_t):
        raise UserError(
            f"--crf_t {' '.join(args.crf_t)}: expected numbers of iterations, 1 to {MAX_CRF_ITERATIONS}, or none"
        )
    return [(int(iterations), alpha) for iterations in args.crf_t for alpha in args.crf_alpha]


def check_arguments(args: argparse.Namespace) -> None:
    """Raise `UserError` for flags that are wrong; put the network's registry name in place."""
    args.network = resolve_network(args.network)
    if not 0 <= args.thr <= 1:
        raise UserError(f"--thr {args.thr}: expected a background score from 0 to 1")
    check_scales(args.scales)
    if not all(0 < alpha < float("inf") for alpha in args.crf_alpha):
        raise UserError(f"--crf_alpha {' '.join(map(str, args.crf_alpha))}: expected positive exponents")


def plan_outputs(args: argparse.Namespace) -> Outputs:
    """Where the files will go; `UserError` if two kinds of files would go into one folder."""
    work_dir = Path(args.work_dir)
    cam_npy, cam_png = Path(args.cam_npy or work_dir / "cam_npy"), Path(args.cam_png or work_dir / "cam_png")
    crf = {(t, alpha): work_dir / "crf" / f"crf_{t}_{alpha:g}" for t, alpha in crf_settings(args)}
    overlay = work_dir / "overlay" if args.overlay else None
    users = [("CAM dicts", cam_npy), ("label maps", cam_png)]
    users += [] if overlay is None else [("pictures", overlay)]
    users += [(f"CRF seeds of {t} iterations, alpha {alpha}", folder) for (t, alpha), folder in crf.items()]
    by_folder: dict[Path, list[str]] = {}
    for user, folder in users:
        by_folder.setdefault(folder.resolve(), []).append(user)
    raise_problems(
        "--cam_npy, --cam_png, --crf_alpha: expected a folder for each kind of files, found several in one",
        [f"{folder}: {'; '.join(names)}" for folder, names in by_folder.items() if len(names) > 1],
    )
    return Outputs(cam_npy, cam_png, crf, overlay, args.thr)


def open_outputs(args: argparse.Namespace, outputs: Outputs) -> None:
    """Create the folders and keep others out; refuse those with another network's or other settings' files."""
    flags = {outputs.cam_npy: args.cam_npy and "--cam_npy", outputs.cam_png: args.cam_png and "--cam_png"}
    for folder in outputs.folders:
        flag = flags.get(folder) or "--work_dir"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{flag} {folder}: {error.filename} cannot be created ({error.strerror})") from error
        hold_folder(folder, flag)
    cam = {name: getattr(args, name) for name in ("network", "backbone", "width", "scales", "amp")}
    cam["weights_sha256"] = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()
    settings = {outputs.cam_npy: cam, outputs.cam_png: {**cam, "thr": args.thr}}
    for (iterations, alpha), folder in outputs.crf.items():
        settings[folder] = {**cam, "iterations": iterations, "alpha": alpha}
    if outputs.overlay is not None:
        settings[outputs.overlay] = {**cam, "thr": args.thr, "crf": [list(setting) for setting in outputs.crf]}
    claim_folders(
        [Claim(folder, made_with, folder / "settings.json") for folder, made_with in settings.items()],
        advice="take another --work_dir, --cam_npy or --cam_png, or remove these files and the settings.json there",
    )


def main() -> None:
    args = parse_arguments()
    check_arguments(args)
    outputs = plan_outputs(args)
    devices = process_devices(args.device, args.n_gpus, args.n_processes_per_gpu)
    crf_backend = resolve_backend(args.crf_backend, torch.device(devices[0]))
    image_root = require_folder(args.img_root, "--img_root", "JPEGImages, <id>.jpg")
    join_processes(torch.device("cpu"))  # GPUs are for the processes of the pools
    ids = read_ids(args.infer_list, "--infer_list")[rank() :: world_size()]
    labels = labels_of(ids, load_labels(args.labels), source=f"--labels {args.labels}")
    classes = {image_id: np.flatnonzero(label).tolist() for image_id, label in labels.items()}
    check_images(ids, image_root)
    load_net(args)  # a wrong checkpoint is reported here and once, not by every process
    if rank() == 0:
        open_outputs(args, outputs)
    wait_for_all()

    args.processes = len(devices)
    network = Pool(
        "cam", make_cam, len(devices), start=functools.partial(NetworkProcess.start, queue_of(devices), args)
    )
    seed_devices = crf_devices(crf_backend, devices, args.crf_workers)
    start_seeds = functools.partial(CRFProcess.start, queue_of(seed_devices), crf_backend)
    seeds = Pool("seed", make_seeds, len(seed_devices), start=start_seeds)

    def missing(image_id: str) -> list[tuple[Pool, tuple]]:
        shape = image_size(image_root / f"{image_id}.jpg")[::-1]
        if not outputs.has_cam(image_id, classes[image_id], shape):
            return [(network, (image_id, classes[image_id], image_root, args.scales, outputs))]
        label_map, settings = outputs.missing_seeds(image_id, classes[image_id], shape)
        if label_map or settings or outputs.lacks_overlay(image_id):
            return [(seeds, (image_id, label_map, settings, image_root, outputs))]
        return []

    for pool, job in run_checks(missing, ids, "what is there"):
        pool.waiting.append(job)

    def all_seeds(image_id: str, _: None) -> tuple:
        return image_id, True, list(outputs.crf), image_root, outputs

    started = time.perf_counter()
    made = len(network.waiting)
    problems = run_stages(network, seeds, follow_up=all_seeds)
    leave_processes()
    raise_problems("images that gave no seeds; the others are done", problems)
    print(f"{made} of {len(ids)} images inferred {pace(started, made)}")
    for folder in outputs.folders:
        print(f"  {folder}")


if __name__ == "__main__":
    run_script(main)
