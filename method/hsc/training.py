"""A run of training, from its command line, ids and labels to its files; what it reads has been checked."""

import argparse
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from data.augmentation import TrainingAugmentation
from data.normalisation import Normalisation
from data.training import EpochSampler, TrainingSet
from method.hsc.build import Training, build_training, configure
from method.hsc.engine import classifier_precision, train
from network import EPS_SEAM
from network.build import build_network
from network.weights import load_weights, released_state_dict
from tool.checkpoint import save_checkpoint, save_weights
from tool.cli import UserError, pace
from tool.crf import resolve_backend
from tool.device import place, resolve_device
from tool.distributed import join_processes, leave_processes, rank, world_size
from tool.folder import make_folder
from tool.log import RunLog, curve_name
from tool.reading import outlive_signals
from tool.run import find_checkpoint, restore_checkpoint
from tool.threads import take_threads
from tool.torchrun import loader_processes


def make_loader(
    args: argparse.Namespace,
    ids: list[str],
    labels: dict,
    *,
    steps: range,
    normalisation: Normalisation,
    pin_memory: bool,
) -> DataLoader:
    """This process's share of the batches of `steps`, the same whatever was run before and however many read."""
    augmentation = TrainingAugmentation(
        crop_size=args.crop_size, resize=tuple(args.resize_size), normalisation=normalisation
    )
    dataset = TrainingSet(
        ids,
        image_root=args.data_root,
        saliency_root=args.saliency_root,
        labels=labels,
        augmentation=augmentation,
        seed=args.seed,
    )
    sampler = EpochSampler(
        len(ids),
        args.batch_size,
        seed=args.seed,
        start_step=steps.start,
        num_steps=len(steps),
        rank=rank(),
        world_size=world_size(),
    )
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=loader_processes(args.num_workers),
        pin_memory=pin_memory,
        worker_init_fn=outlive_signals,
    )


def make_training(args: argparse.Namespace, device: torch.device, crf_backend: str, *, num_images: int) -> Training:
    """What a run trains, with random weights."""
    torch.manual_seed(args.seed)
    config = configure(
        args.method,
        without=args.without,
        overlap=args.tau,
        foreground_share=args.alpha,
        second_view=args.view2_size,
        crf_backend=crf_backend,
        sane=args.sane,
    )
    net = build_network(
        config.network, backbone=args.backbone, width=args.width, frozen=not args.from_scratch, **config.net
    )
    return build_training(
        place(net, device, args.amp),
        config,
        lr=args.lr,
        momentum=args.momentum,
        weight_decay=args.wt_dec,
        max_step=num_images // args.batch_size * args.max_epoches,
        max_gradient=args.clip_grad,
        amp=args.amp,
        compiled=args.compile,
    )


def train_run(args: argparse.Namespace, ids: list[str], labels: dict, val_ids: list[str], settings: dict) -> None:
    """Train on `ids`, whose `labels` there are, from the start or from the run's checkpoint, and write all its files.

    Args:
        args: train_voc.py's. val_ids: what --eval scores. settings: what decides the weights, for the checkpoint.

    Raises `UserError` for a device that is not there, a checkpoint or weights that do not fit, and as `run_steps`.
    """
    device = resolve_device(args.device)
    if args.compile and device.type == "cpu":
        raise UserError("--compile: expected a GPU, found a CPU, where it gains nothing; leave it out")
    device = join_processes(device)
    crf_backend = resolve_backend(args.crf_backend, device)
    is_first = rank() == 0  # the others write nothing
    folder = Path(args.work_dir) / args.session
    checkpoint = find_checkpoint(folder, resume=args.resume, settings=settings, name_flag="--session")

    training = make_training(args, device, crf_backend, num_images=len(ids))
    net = training.net
    first_step, num_steps = 0, args.max_iters * args.iter_size
    if checkpoint is not None:
        first_step = restore_checkpoint(training, checkpoint, folder=folder, num_steps=num_steps)
        origin = "resumed"
    else:
        origin = "random weights"
        if args.weights != "none":
            origin = load_weights(net, args.weights, background_last=args.network == EPS_SEAM)
    threads = take_threads(checkpoint)
    log = None
    if is_first:
        make_folder(folder, vars(args), flag="--work_dir")
        log = RunLog(folder, first_step=first_step)
        log.line(str(origin))
        where = f"{len(ids)} images, on {world_size()} x {device.type}, {threads}"
        log.line(f"{args.method}: step {first_step} of {num_steps}, {where}")

    def save(step: int) -> None:
        if is_first:
            state = {**training.state(), "step": step, "settings": settings, "threads": torch.get_num_threads()}
            save_checkpoint(folder / "last.ckpt", state)

    started, steps = time.perf_counter(), range(first_step, num_steps)
    losses = train(
        training,
        make_loader(
            *(args, ids, labels),
            steps=steps,
            normalisation=net.normalisation,
            pin_memory=device.type == "cuda",
        ),
        device=device,
        steps=steps,
        seed=args.seed,
        log=log,
        log_every=args.log_every,
        picture_every=args.picture_every,
        save=save,
        save_due=lambda step: step % args.save_every == 0,
    )
    leave_processes()
    if log is None:
        return
    weights = folder / f"{args.session}.pth"
    save_weights(weights, released_state_dict(net))
    log.line(f"trained {len(steps)} steps {pace(started, len(steps) * args.batch_size)}: {weights}")
    figures = [curve_name(name) for name in losses]
    if args.eval:
        started = time.perf_counter()
        precision = classifier_precision(net, val_ids, image_root=Path(args.data_root), labels=labels, device=device)
        score = f"mean average precision {100 * precision:.2f} %"
        log.line(f"scored image labels of {args.val_list} {pace(started, len(val_ids))}: {score}")
        log.scalars(num_steps, {"val/mean_average_precision": precision})
        figures.append("val/mean_average_precision")
    log.hparams(num_steps, vars(args), figures)
    log.close()
