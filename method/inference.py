"""Stage 1's inference, of any method: what the processes of the network's and the seeds' pool do.

On CPUs the two are apart: networks want few processes with much memory, CRFs one a core. On GPUs, where both run on the
same one, a process does an image's CAMs and its seeds, several images at a time.
"""

import argparse
import functools
import time
from collections.abc import Mapping, Sequence
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import torch
from torch import nn

from data.images import image_size, load_rgb, run_checks, with_size
from method.outputs import Outputs
from method.seeds import make_seeds
from network.build import build_network
from network.fold import fold_norms
from network.weights import LoadReport, first_few, load_weights
from tool.artifact import save_cam
from tool.cam import multi_scale_cam
from tool.cli import pace, raise_problems
from tool.crf.process import CRFProcess
from tool.device import autocast, images_at_once, on_own_stream, place
from tool.distributed import leave_processes
from tool.limits import reported_limits
from tool.pipeline import Pool, queue_of, run_stages


class NetworkProcess:
    """What a process of the network's pool holds from its start on."""

    net: nn.Module
    device: torch.device
    amp: str

    @classmethod
    def start(cls, devices: SimpleQueue, args: argparse.Namespace) -> None:
        cls.device, cls.amp = torch.device(devices.get()), args.amp
        torch.set_num_threads(max(torch.get_num_threads() // args.processes, 1))
        # Without gradients autocast keeps no half precision weights, which other threads' streams would find half done.
        net, _ = load_net(args)
        cls.net = place(fold_norms(net), cls.device, cls.amp).requires_grad_(False)
        CRFProcess.share(cls.device)  # in a pool of its own it says otherwise there

    @classmethod
    def foreground_cam(cls, image: torch.Tensor) -> torch.Tensor:
        with autocast(cls.device, cls.amp):
            return cls.net.foreground_cam(image)


def load_net(args: argparse.Namespace) -> tuple[nn.Module, LoadReport]:
    """The trained net that `args`, inference.py's, name, and what came of loading it.

    Raises `UserError` as `load_weights`, and for a file without a layer that inference needs.
    """
    net = build_network(args.network, backbone=args.backbone, width=args.width)
    report = load_weights(net, args.weights, background_last=args.background_last)
    missing = [name for name in report.missing if name.split(".")[0] not in net.training_only_layers]
    others = f"; the network does not have the file's {first_few(report.unexpected)}" if report.unexpected else ""
    raise_problems(f"{args.weights}: expected a trained {args.network}, these tensors are missing{others}", missing)
    return net.eval(), report


def make_cam(image_id: str, classes: list[int], image_root: Path, scales: list[float], outputs: Outputs) -> None:
    """The network's part of one image: the CAM dict."""
    path = image_root / f"{image_id}.jpg"
    limits = reported_limits(
        "take smaller --scales, fewer --n_processes_per_gpu or --crf_workers, or --amp bf16", at=with_size(path)
    )
    with limits, on_own_stream(NetworkProcess.device):
        cams = multi_scale_cam(
            NetworkProcess.foreground_cam,
            load_rgb(path),
            classes,
            scales=scales,
            normalise=NetworkProcess.net.normalisation.of_pixels,
            device=NetworkProcess.device,
        )
    outputs.remove_seeds(image_id)
    save_cam(outputs.cam_npy / f"{image_id}.npy", cams, outputs.data_set)


def make_all(image_id: str, for_cam: tuple | None, for_seeds: tuple) -> None:
    """All of one image, from the arguments of `make_cam`, or None where its CAM dict is there, and `make_seeds`."""
    if for_cam is not None:
        make_cam(image_id, *for_cam)
    make_seeds(image_id, *for_seeds)


def infer_missing(
    ids: Sequence[str],
    classes: Mapping[str, list[int]],
    *,
    args: argparse.Namespace,
    image_root: Path,
    outputs: Outputs,
    devices: Sequence[str],
    crf_backend: str,
) -> None:
    """Make the files of `outputs` that are missing or damaged.

    Args:
        classes: of each image. args: inference.py's. devices: of the network's processes, a name for each.
        crf_backend: pydensecrf or torch.

    Raises `UserError` with a line for each image that could not be done, or if a process died.
    """
    args.processes = len(devices)
    together = devices[0] != "cpu" and crf_backend == "torch"
    network = Pool(
        "cam and seed" if together else "cam",
        make_all if together else make_cam,
        len(devices),
        threads=images_at_once(devices[0]),
        start=functools.partial(NetworkProcess.start, queue_of(devices), args),
    )
    seeds = Pool("seed", make_seeds, args.crf_workers, start=functools.partial(CRFProcess.start, crf_backend))
    all_seeds = (True, list(outputs.crf), image_root, outputs)

    def missing(image_id: str) -> list[tuple[str, tuple | None, tuple]]:
        """What `make_all` takes, if anything is missing."""
        shape = image_size(image_root / f"{image_id}.jpg")[::-1]
        if not outputs.has_cam(image_id, classes[image_id], shape):
            return [(image_id, (classes[image_id], image_root, args.scales, outputs), all_seeds)]
        label_map, settings = outputs.missing_seeds(image_id, classes[image_id], shape)
        if label_map or settings or outputs.lacks_overlay(image_id):
            return [(image_id, None, (label_map, settings, image_root, outputs))]
        return []

    made = 0
    for image_id, for_cam, for_seeds in run_checks(missing, ids, "what is there"):
        made += for_cam is not None
        if together:
            network.waiting.append((image_id, for_cam, for_seeds))
        elif for_cam is not None:
            network.waiting.append((image_id, *for_cam))
        else:
            seeds.waiting.append((image_id, *for_seeds))

    started = time.perf_counter()
    if together:
        problems = run_stages(network)
    else:
        problems = run_stages(network, seeds, follow_up=lambda image_id, _: (image_id, *all_seeds))
    leave_processes()
    raise_problems("images that gave no seeds; the others are done", problems)
    print(f"{made} of {len(ids)} images inferred {pace(started, made)}")
