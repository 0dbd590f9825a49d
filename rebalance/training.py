"""A run of DHR's training, from its command line and images to its files; what it reads has been checked."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.utils.data import DataLoader

from data.descriptions import find_data_set
from data.normalisation import Normalisation
from data.training import training_loader
from network.backbone_weights import start_from
from network.deeplabv3plus import DeepLabV3Plus, build_deeplabv3plus, load_first_weights, parameter_groups
from rebalance.average import Average
from rebalance.crf_pool import CRFPool
from rebalance.labels import RunCRF, Scene, make_labels
from rebalance.loss import rebalance_losses
from rebalance.recipe import LabelRecipe
from rebalance.samples import RebalanceAugmentation, RebalanceSet, collate, scenes_of
from tool.checkpoint import save_weights
from tool.crf import resolve_backend
from tool.dataset import DataSet
from tool.device import autocast, place
from tool.distributed import leave_processes, means_over_processes, one_over_processes
from tool.optim import PortableSGD, polynomial_schedule
from tool.torchrun import own_cores
from tool.training import Training
from tool.training_flags import steps_of_epochs
from tool.training_run import StartedRun, open_run, start_run

PICTURE_EVERY = 200  # steps

# From an image's scenes and the net's CAMs, C4 and C5 to the labels of a batch.
MakeLabels = Callable[[Sequence[Scene], Tensor, Tensor, Tensor], Tensor]


def build_training(
    net: DeepLabV3Plus,
    average: Average,
    *,
    lr: float,
    momentum: float,
    nesterov: bool = False,
    weight_decay: float,
    num_steps: int,
    amp: str = "off",
) -> Training:
    """`net`, which is on its device, with its average, SGD and the polynomial schedule over all its steps.

    Batch norms keep to their process's images, of several.
    """
    groups = parameter_groups(net, lr=lr, weight_decay=weight_decay)
    optimizer = PortableSGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)
    return Training(
        objective=one_over_processes(net, shared_norms=False),
        saved={"model": net, "average": average},
        optimizer=optimizer,
        schedule=polynomial_schedule(optimizer, max_step=num_steps),
        scaler=GradScaler(next(net.parameters()).device.type, enabled=amp == "fp16"),
    )


def training_step(
    training: Training, batch: Mapping[str, Any], make: MakeLabels, *, thread: Executor, amp: str = "off"
) -> tuple[dict[str, Tensor], Tensor]:
    """One optimiser step and one of the average; the losses of all processes' images, detached, and the labels of this
    one's, int64 (N, s, s).

    Labels are made in a `thread` of its own, from the moment on when the net's maps are there, while the decoder goes
    on; on a GPU the host does so, where their work stands in one queue. batch: of `rebalance.samples.collate`.
    """
    net, average = training.saved["model"], training.saved["average"]
    device = next(net.parameters()).device
    image, tags = (batch[name].to(device, non_blocking=True) for name in ("image", "tags"))
    scenes = scenes_of(batch, device)
    made: list[Future[Tensor]] = []
    with autocast(device, amp):
        outputs = training.objective(image, lambda *maps: made.append(thread.submit(make, scenes, *maps)))
    labels = made[0].result()
    losses = rebalance_losses(outputs.cam, outputs.logits, labels, tags, [scene.box for scene in scenes])
    training.step(losses["total"])
    average.update(net)
    return means_over_processes(losses), labels


def picture_of(batch: Mapping[str, Any], labels: Tensor, data_set: DataSet) -> Tensor:
    """A batch's first image, its mask and its labels side by side, uint8 (3, s, 3 s), in the data set's colours."""
    palette = torch.from_numpy(data_set.palette)
    maps = [palette[values.long()] for values in (batch["mask"][0], labels[0].cpu())]
    return torch.cat([batch["picture"][0], *maps], dim=1).permute(2, 0, 1)


def make_loader(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    tags: Mapping[str, np.ndarray],
    *,
    steps: range,
    normalisation: Normalisation,
    pin_memory: bool,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    augmentation = RebalanceAugmentation(
        crop_size=args.crop_size,
        resize=(args.min_image, args.max_image),
        jitter=(args.b_factor, args.c_factor, args.s_factor, args.h_factor),
        normalisation=normalisation,
        plain_picture="crf_image" in args.sane,
    )
    dataset = RebalanceSet(
        images,
        mask_root=Path(args.wss_masks),
        feature_root=None if args.uss_features is None else Path(args.uss_features),
        tags=tags,
        data_set=find_data_set(args.data_set),
        augmentation=augmentation,
        seed=args.seed,
    )
    return training_loader(
        dataset,
        args.batch_size,
        seed=args.seed,
        steps=steps,
        num_workers=args.num_workers,
        pin_memory=pin_memory,
        collate=collate,
    )


@contextmanager
def crfs_of(args: argparse.Namespace, device: torch.device) -> Iterator[RunCRF]:
    """How a step's CRFs are made: on a GPU there, all at once; else by processes on the CPU, beside the net.

    Raises `UserError` for a backend that is not installed.
    """
    backend = resolve_backend(args.crf_backend, device)
    if device.type != "cpu" and backend == "torch":
        yield lambda work, pictures, maps: work(pictures, maps, backend=backend)
        return
    with CRFPool(backend=backend, processes=args.crf_workers or own_cores()) as pool:
        yield pool


def train_run(
    args: argparse.Namespace,
    images: Mapping[str, Path],
    tags: Mapping[str, np.ndarray],
    *,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Train on `images`, by id, with their `tags`, from the start or from the run's checkpoint; write all its files.

    Args:
        args: train.py's. settings, defaults: of `tool.training_run.Run`.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    run, device, checkpoint = open_run(args, settings=settings, defaults=defaults)
    num_steps = steps_of_epochs(args, len(images))
    data_set = find_data_set(args.data_set)
    counts = {"num_labels": data_set.num_labels, "num_classes": data_set.num_classes}
    net = place(build_deeplabv3plus(args.backbone, **counts, width=args.width), device, args.amp)
    origin = None
    if checkpoint is None:
        origin = start_from(args.weights, lambda: load_first_weights(net, args.weights, args.backbone))
    training = build_training(
        net,
        Average(net, decay=args.ema),
        lr=args.lr,
        momentum=args.momentum,
        nesterov=args.nesterov,
        weight_decay=args.wt_dec,
        num_steps=num_steps,
        amp=args.amp,
    )
    started = start_run(
        run, training, checkpoint, origin=origin, num_steps=num_steps, num_images=len(images), name="DHR"
    )
    loader = make_loader(
        args,
        images,
        tags,
        steps=started.steps,
        normalisation=net.normalisation,
        pin_memory=device.type == "cuda",
    )
    weights = run.folder / "last.pth"

    def write_weights(step: int) -> None:
        save_weights(weights, training.saved["average"].state_dict())

    epoch = len(images) // args.batch_size
    losses = take_steps(args, started, loader, data_set, epoch=epoch, write_weights=write_weights)
    leave_processes()
    if started.log is not None:
        write_weights(num_steps)  # here: a run that had taken its last step, and whose file is gone, writes it again
        started.say_trained(len(started.steps) * args.batch_size, weights)
        started.end(losses)


def take_steps(
    args: argparse.Namespace,
    started: StartedRun,
    loader: DataLoader,
    data_set: DataSet,
    *,
    epoch: int,
    write_weights: Callable[[int], None],
) -> dict[str, float]:
    """Train on the batches of `loader`, with labels that a thread makes beside the GPU's work; the last losses.

    epoch, write_weights: of `StartedRun.train`.
    """
    recipe = LabelRecipe(args.tau, args.ot_rule, args.seed_crf, frozenset(args.without))
    device = next(started.training.objective.parameters()).device
    # A new thread's own GPU is the first one, until it is told.
    own_gpu = partial(torch.cuda.set_device, torch.cuda.current_device()) if device.type == "cuda" else None
    with crfs_of(args, device) as run_crf, ThreadPoolExecutor(1, "labels", initializer=own_gpu) as thread:
        make = partial(make_labels, data_set=data_set, recipe=recipe, run_crf=run_crf)

        def take_step(batch: dict, step: int) -> dict[str, Tensor]:
            losses, labels = training_step(started.training, batch, make, thread=thread, amp=args.amp)
            if started.log is not None and (step + 1) % PICTURE_EVERY == 0:
                started.log.picture(step + 1, "image, mask, labels", picture_of(batch, labels, data_set))
            return losses

        return started.train(
            take_step,
            loader,
            seed=args.seed,
            log_every=args.log_every,
            save_every=args.save_every,
            epoch=epoch,
            write_weights=write_weights,
        )
